package inpod

import (
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// Exit codes of Run.
const (
	exitBroken = 125 // it could not do what it is there for
	exitAsked  = 128 + int(unix.SIGTERM)
)

// Run does the work of a pod: the tasks that are packed into pieces, one after another, with
// frames of them on out; env is what they all have. It is alone in its process, as all processes that its tasks leave
// behind become its children and are killed. SIGTERM stops it, and the task that runs: it
// gets that too, and no more are begun. Run returns the exit code of the process.
func Run(pieces, env []string, out *os.File) int {
	load, err := Unpack(pieces)
	if err != nil {
		_, _ = os.Stderr.WriteString("navvy: " + err.Error() + "\n") // what more could be done
		return exitBroken
	}
	// Where that fails, what tasks leave behind ends with the pod.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	r := &run{load: load, env: env, out: NewWriter(out), asked: make(chan os.Signal, 1)}
	signal.Notify(r.asked, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(r.asked)
	code := r.all()
	drain(out)
	return code
}

// run is the work of a pod.
type run struct {
	load    *Load
	env     []string
	out     *Writer
	asked   chan os.Signal
	stopped bool // the pod is to end
}

func (r *run) all() int {
	for i := range r.load.Tasks {
		select {
		case <-r.asked:
			r.stopped = true
		default:
		}
		if r.stopped {
			return exitAsked
		}
		t := &r.load.Tasks[i]
		if r.out.Write(KindBegin, t.Index, nil) != nil {
			return exitBroken // nobody would hear of it
		}
		end := r.one(t)
		end.Stopped = r.stopped
		if r.out.End(t.Index, end) != nil {
			return exitBroken
		}
	}
	if r.out.Write(KindDone, 0, nil) != nil {
		return exitBroken
	}
	return 0
}

// one runs a task to its end.
func (r *run) one(t *Task) *End {
	begun, before := time.Now(), killed()
	p, end := r.start(t)
	if p == nil {
		return end
	}
	r.wait(p)
	p.close()
	end = p.end()
	end.Ran = time.Since(begun)
	end.OOM = max(0, killed()-before)
	return end
}

// wait waits for the end of a process and bounds its time.
func (r *run) wait(p *process) {
	var timer <-chan time.Time
	if r.load.Timeout > 0 {
		timer = time.After(r.load.Timeout)
	}
	for {
		select {
		case <-p.gone:
			return
		case <-r.asked:
			r.stopped = true
			p.signal(unix.SIGTERM) // who asks us makes us end, some time later
		case <-timer:
			if p.late {
				p.kill()
				timer = nil
				break
			}
			p.late = true
			p.signal(unix.SIGTERM)
			timer = time.After(r.load.Grace)
		}
	}
}

// Container runtimes may lose what is in the pipe when a container ends. drain waits until it
// is empty, and a little for what has been read to be kept.
const (
	drainWithin = 5 * time.Second
	drainLook   = 5 * time.Millisecond
	drainBehind = 100 * time.Millisecond
)

func drain(out *os.File) {
	for end := time.Now().Add(drainWithin); time.Now().Before(end); <-time.After(drainLook) {
		if n, err := unix.IoctlGetInt(int(out.Fd()), unix.TIOCINQ); err != nil {
			return // no pipe
		} else if n == 0 {
			<-time.After(drainBehind)
			return
		}
	}
}
