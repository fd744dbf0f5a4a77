package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/share/staging"
)

// bucketLog keeps the log of an attempt until that has ended, and puts it into its bucket. It
// is in a file without a name, which goes with this process: whoever takes the attempt over
// reads the log from its first byte again. All methods do nothing on nil.
type bucketLog struct {
	driver *Driver
	plan   *plan

	mu   sync.Mutex
	file *os.File // nil before the first byte
	last byte
	err  error // that has ended it
	done bool  // nothing comes any more
}

// newLog is for the log of an attempt; nil if no bucket is for it.
func (d *Driver) newLog(t *driver.Task) *bucketLog {
	p, refusal := d.plan(t)
	switch {
	case refusal != nil:
		d.log.Warn("the log of an attempt goes into no bucket", "attempt", t.Token, "err", refusal)
		return nil
	case p == nil:
		return nil
	case !p.ours:
		if !p.URLs() {
			d.log.Warn("the log of an attempt goes into no bucket: no S3 server is known here, set NAVVY_BUCKETS", "job", p.job)
		}
		return nil
	}
	return &bucketLog{driver: d, plan: p}
}

// beside writes what comes for to into the log as well, also when nobody wants it there.
func (l *bucketLog) beside(to io.Writer) io.Writer {
	if l == nil {
		return to
	}
	return &besideWriter{to, l}
}

type besideWriter struct {
	to  io.Writer // nil when it wants no more
	log *bucketLog
}

func (w *besideWriter) Write(p []byte) (int, error) {
	if w.to != nil {
		if _, err := w.to.Write(p); err != nil {
			w.to = nil
		}
	}
	w.log.add(p)
	return len(p), nil
}

// add adds to the log.
func (l *bucketLog) add(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addLocked(p)
}

func (l *bucketLog) addLocked(p []byte) {
	if l.done || l.err != nil || len(p) == 0 {
		return
	}
	if l.file == nil {
		if l.file, l.err = scratch(l.plan.opts.TempDir); l.err != nil {
			return
		}
	}
	if _, l.err = l.file.Write(p); l.err == nil {
		l.last = p[len(p)-1]
	}
}

// scratch is a file that has no name.
func scratch(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "navvy-log-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// finish ends the log with last words, and gives what there is to be read.
func (l *bucketLog) finish(words string) io.ReadSeeker {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		l.driver.log.Error("the log of an attempt is cut", "job", l.plan.job, "err", l.err)
		words = strings.TrimSpace(fmt.Sprintf("the log is cut here: %v\n%s", l.err, words))
		l.err = nil // there may be room for so much
	}
	if words != "" {
		text := "navvy: " + words + "\n"
		if l.last != 0 && l.last != '\n' {
			text = "\n" + text
		}
		l.addLocked([]byte(text))
	}
	l.done = true
	if l.file == nil {
		return strings.NewReader("")
	}
	return l.file
}

// close drops a log that is not kept.
func (l *bucketLog) close() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.done && l.file != nil {
		_ = l.file.Close()
	}
	l.done = true
}

// How long a result waits for its log: of one that was stopped, and before its time is over.
const (
	stoppedLog = 10 * time.Second
	logMargin  = 5 * time.Second
	lastLogs   = 5 * time.Second // when the driver is closed
)

// concluding is an attempt that has ended, as its log wants it.
type concluding interface {
	// lastWords are why the attempt did not succeed; empty if it did.
	lastWords(end driver.End, err error) string
	// logTime is how long the result waits for its log that was there at that time.
	logTime(begun time.Time) time.Duration
}

// keep puts the log of an attempt that has ended into its bucket. Its result waits for that,
// for a while; then it is told without, and the log is tried on, unless err gives the attempt
// back: the log of the next one has the same name, and has to come after it. If ctx ends first,
// that is for whoever takes the attempt over: false says so.
func (l *bucketLog) keep(ctx context.Context, w concluding, end driver.End, err error) bool {
	switch {
	case l == nil, l.driver.ctx.Err() != nil:
		return true
	case ctx.Err() != nil:
		return false
	}
	text := l.finish(w.lastWords(end, err))
	kept := make(chan struct{})
	trying, giveUp := context.WithCancel(l.driver.ctx)
	l.driver.logs.Go(func() {
		defer close(kept)
		defer giveUp()
		l.put(trying, text)
	})
	if err != nil {
		defer func() {
			giveUp()
			<-kept
		}()
	}
	begun := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-kept:
			return true
		case <-ctx.Done():
			return closed(kept)
		case <-tick.C:
		}
		if time.Since(begun) > w.logTime(begun) {
			l.driver.log.Warn("a result does not wait for its log any more", "job", l.plan.job, "bucket", l.plan.Target())
			return true
		}
	}
}

// began is when the time of the attempt began, as whoever ends it when that is over has it.
func (w *waiter) began() time.Time {
	if t := w.task.Began; !t.IsZero() {
		return t
	}
	return w.created
}

// logTime is how long the result waits that was there at that time.
func (w *waiter) logTime(begun time.Time) time.Duration {
	if w.wasStopped() {
		return stoppedLog
	}
	most := w.log.plan.opts.patience()
	if t := w.task.Spec.Timeout; t > 0 && !w.began().IsZero() {
		most = min(most, max(w.began().Add(t-logMargin).Sub(begun), time.Second))
	}
	return most
}

// put puts the log into its bucket, and says it if that cannot be done.
func (l *bucketLog) put(ctx context.Context, text io.ReadSeeker) {
	o := l.plan.opts
	server := o.Server
	if o.Here != "" {
		server.Endpoint = o.Here
	}
	err := staging.Put(ctx, &staging.Options{
		Server: server, Bucket: bare(l.plan.Target()), Patience: o.patience(), Logger: l.driver.log.With("job", l.plan.job),
	}, l.plan.logName(), text)
	if err != nil {
		l.driver.log.Error("the log of an attempt is not in its bucket", "job", l.plan.job, "bucket", l.plan.Target(), "object", l.plan.logName(), "err", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_ = l.file.Close()
	}
}

// finishLogs waits for the logs that are on their way, but not for a server that is away.
func (d *Driver) finishLogs() {
	told := make(chan struct{})
	d.running.Go(func() {
		defer close(told)
		d.logs.Wait()
	})
	timer := time.NewTimer(lastLogs)
	defer timer.Stop()
	select {
	case <-told:
	case <-timer.C:
	}
}

// lastWords are why the attempt did not succeed; empty if it did.
func (w *waiter) lastWords(end driver.End, err error) string {
	t := w.task.Spec.Timeout
	switch {
	case !w.wasStopped():
		return why(end, err)
	case t > 0 && !w.began().IsZero() && time.Since(w.began()) > t-logMargin:
		return "ran longer than " + t.String()
	}
	return "stopped"
}

// why is why an attempt ended that did not succeed.
func why(end driver.End, err error) string {
	refusal := end.Refusal
	switch {
	case refusal != nil || errors.As(err, &refusal):
		return refusal.Message
	case err != nil:
		return err.Error()
	case end.Usage.OOMKills > 0:
		return "out of memory"
	case end.Exit.Signal != 0:
		return fmt.Sprintf("killed by signal %d", end.Exit.Signal)
	case end.Exit != (navvy.Exit{}):
		return fmt.Sprintf("exit code %d", end.Exit.Code)
	}
	return ""
}
