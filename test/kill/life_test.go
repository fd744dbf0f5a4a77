package kill

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// breaks are what a life does wrong on purpose.
type breaks struct {
	forgetJournal bool
	oldDisk       bool
	forgetDir     bool                // the last navvy leaves a private directory
	printed       func([]byte) []byte // what becomes of all that was printed
	result        func(*result)       // what becomes of each result
}

// life is one job, from its submit through many deaths of navvy to its end.
type life struct {
	breaks
	t        *testing.T
	rng      *rand.Rand
	dir      string // all that belongs to this life
	inputs   int
	retries  bool
	traces   string // the directory where tasks leave traces
	limited  bool   // tasks have control groups
	isolated bool   // tasks see little of the host
	id       string
	sessions []string // files of what was printed, in order
	seen     map[int]string
	story    []string
	bad      error // the first promise that was broken
}

// What may turn out to be broken.
var (
	errOverlap = errors.New("two attempts of a task ran at once")
	errLost    = errors.New("something that was there is not any more")
	errPrinted = errors.New("what was printed is not each answer once, in order")
	errOutput  = errors.New("a result is not what the task wrote")
	errState   = errors.New("the job does not come to its end")
	errLeft    = errors.New("something is left")
	errApart   = errors.New("a task was not set apart")
	errVerify  = errors.New("navvy verify finds something")
)

func newLife(t *testing.T, seed uint64, b breaks) *life {
	t.Helper()
	l := &life{breaks: b, t: t, rng: rand.New(rand.NewPCG(seed, 0)), seen: map[int]string{}}
	l.inputs = 30 + l.rng.IntN(150)
	l.retries = l.rng.IntN(5) == 0
	l.limited = l.rng.IntN(2) == 0 && canLimit()
	l.isolated = l.rng.IntN(2) == 0 && canIsolate()
	if b.forgetJournal { // nothing else is to tell what is left
		l.limited, l.isolated = false, false
	}
	return l
}

func (l *life) chance(n int) bool { return l.rng.IntN(100) < n }

func (l *life) note(format string, args ...any) {
	l.story = append(l.story, fmt.Sprintf(format, args...))
}

func (l *life) told() string { return strings.Join(l.story, "\n") }

// violate says that a promise is broken; the first counts.
func (l *life) violate(what error, format string, args ...any) {
	if l.bad == nil {
		l.bad = fmt.Errorf("%w: %s", what, fmt.Sprintf(format, args...))
	}
}

func (l *life) broke(promise error) bool { return errors.Is(l.bad, promise) }

func (l *life) path(name string) string { return filepath.Join(l.dir, name) }

func (l *life) run() {
	var err error
	if l.dir, err = os.MkdirTemp("", "navvy-life-"); err != nil {
		l.t.Fatal(err)
	}
	defer l.bury()
	l.write("inputs", l.lines())
	l.makeTraces()
	for l.id == "" && l.bad == nil {
		l.begin()
	}
	for range 2 + l.rng.IntN(5) {
		if l.bad == nil {
			l.step()
			l.mishap()
			l.look()
		}
	}
	if l.bad == nil {
		l.lastMishap()
		l.finish()
	}
}

func (l *life) lines() []byte {
	var b []byte
	for n := range l.inputs {
		b = fmt.Appendf(b, "%d\n", n)
	}
	return b
}

func (l *life) write(name string, p []byte) {
	if err := os.WriteFile(l.path(name), p, 0o600); err != nil {
		l.t.Fatal(err)
	}
}

func (l *life) read(name string) []byte {
	p, err := os.ReadFile(l.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		l.t.Fatal(err)
	}
	return p
}

// trace is what tasks have left in one of the traces.
func (l *life) trace(name string) []byte {
	p, err := os.ReadFile(filepath.Join(l.traces, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		l.t.Fatal(err)
	}
	return p
}

// begin submits the job, and kills navvy meanwhile or soon after.
func (l *life) begin() {
	args := []string{"map", "--quiet", "--name", "life", "-j", fmt.Sprint(1 + l.rng.IntN(6))}
	if l.retries {
		args = append(args, "--retries", "2")
	}
	if l.limited {
		args = append(args, "--pids-limit", "200")
	}
	if l.isolated {
		args = append(args, "--isolate")
	}
	work := []string{"--", os.Args[0], "{}"}
	switch {
	case l.chance(60):
		l.sessions = nil
		l.end(l.session(append(args, work...)...))
		l.find(false)
	case l.chance(50): // said to be there when its id is printed
		p := l.start("detached", append(append(args, "-d"), work...)...)
		l.end(p)
		if id := strings.TrimSpace(string(l.read(p.out))); id != "" {
			l.id = id
			l.find(true)
			return
		}
		l.find(false)
	default: // the same key until it works
		args = append(args, "-d", "--idempotency-key", "once")
		l.end(l.start("keyed", append(args, work...)...))
		p := l.start("keyed", append(args, work...)...)
		l.await(p)
		l.id = strings.TrimSpace(string(l.read(p.out)))
		l.find(true)
	}
}

// find looks for the job; whole if all of its inputs have to be there.
func (l *life) find(whole bool) {
	list := l.jobs()
	if len(list) > 1 {
		l.violate(errState, "one submit has made %d jobs", len(list))
	}
	switch {
	case l.bad != nil:
	case len(list) == 0 && whole:
		l.violate(errLost, "job %s", l.id)
	case len(list) == 0:
	case whole && (list[0].ID != l.id || list[0].Total != l.inputs):
		l.violate(errLost, "job %s, %d inputs; there is %s, %d inputs", l.id, l.inputs, list[0].ID, list[0].Total)
	default:
		l.id, l.inputs = list[0].ID, list[0].Total
	}
	l.note("there is job %s with %d inputs", l.id, l.inputs)
}

// step lets somebody work with the job, and ends that somehow.
func (l *life) step() {
	switch n := l.rng.IntN(100); {
	case n < 60:
		l.end(l.session("resume", "--quiet", l.id))
	case n < 75:
		l.await(l.start("behind", "resume", "-d", l.id))
		l.pause()
		l.killHolder()
	default:
		l.several()
	}
}

// several terminals are open, and one of them goes.
func (l *life) several() {
	first := l.session("resume", "--quiet", l.id)
	l.pause()
	other := l.start("other", "map", "--quiet", "--name", "other", "--", "echo", ":::", "1", "2", "3")
	viewer := l.start("viewer", [][]string{{"logs", "-f", l.id}, {"wait", l.id}, {"results", "--follow", l.id}, {"status", l.id}}[l.rng.IntN(4)]...)
	l.pause()
	l.kill(first)
	if l.chance(30) {
		l.killHolder()
	}
	l.pause()
	l.kill(viewer)
	if code := l.await(other); code == 0 {
		if got := string(l.read(other.out)); got != "1\n2\n3\n" {
			l.violate(errPrinted, "another job printed %q", got)
		}
	}
}

// end ends a session: by a signal, by the death of whoever holds the
// directory, or by nothing.
func (l *life) end(p *proc) {
	l.pause()
	switch n := l.rng.IntN(100); {
	case n < 55:
		l.kill(p)
	case n < 65:
		l.killHolder()
		l.pause()
		l.kill(p)
	case n < 75:
		l.signal(p, unix.SIGINT)
		l.await(p)
	case n < 85:
		l.signal(p, unix.SIGINT)
		l.pause()
		l.signal(p, unix.SIGINT)
		l.await(p)
	case n < 90:
		l.signal(p, unix.SIGTERM)
		l.await(p)
	default:
		l.signal(p, unix.SIGINT)
		l.pause()
		l.kill(p)
	}
}

// pause lets some time pass: often little, sometimes enough to do most of the work.
func (l *life) pause() {
	d := time.Duration(l.rng.Int64N(int64(time.Millisecond) << l.rng.IntN(10)))
	l.note("%s pass", d)
	time.Sleep(d) //nolint:forbidigo // navvy is to be killed at any time
}

// mishap is what a broken world does between two deaths.
func (l *life) mishap() {
	if l.forgetJournal {
		_ = os.Remove(l.path("data/worker/journal")) // if there is one
	}
	store, old := l.path("data/store"), l.path("old")
	if l.oldDisk && !exists(old) && exists(store) {
		l.must(os.CopyFS(old, os.DirFS(store)))
	}
}

// lastMishap is what it does before the end.
func (l *life) lastMishap() {
	store, old := l.path("data/store"), l.path("old")
	if exists(old) && l.holder() == 0 {
		l.must(os.RemoveAll(store))
		l.must(os.Rename(old, store))
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func (l *life) must(err error) {
	if err != nil {
		l.t.Fatal(err)
	}
}

// finish lets the job come to its end, and sees that all is well.
func (l *life) finish() {
	for try := range 5 {
		code := l.await(l.session("resume", "--quiet", l.id))
		if code == 0 || code == 1 {
			break
		}
		l.note("try %d to finish: exit code %d", try, code)
	}
	for _, j := range l.jobs() {
		if j.ID == l.id && j.Succeeded+j.Failed != l.inputs {
			l.violate(errState, "%+v", j)
		}
	}
	l.look()
	if len(l.seen) != l.inputs {
		l.violate(errState, "%d of %d tasks have a result", len(l.seen), l.inputs)
	}
	l.checkPrinted()
	l.checkGone()
	l.checkGroups()
	if l.forgetDir {
		l.must(os.MkdirAll(l.path("data/worker/work/token"), 0o700))
	}
	l.checkApart()
	if code := l.await(l.start("verify", "verify")); code != 0 {
		l.violate(errVerify, "%s", l.read("verify"))
	}
}

// job is what navvy ls says.
type job struct {
	ID                       string
	Name                     string
	Total, Succeeded, Failed int
}

func (l *life) jobs() (list []job) {
	p := l.start("ls", "ls", "-o", "jsonl")
	l.await(p)
	dec := json.NewDecoder(bytes.NewReader(l.read(p.out)))
	for dec.More() {
		var j job
		l.must(dec.Decode(&j))
		if j.Name == "life" {
			list = append(list, j)
		}
	}
	return list
}
