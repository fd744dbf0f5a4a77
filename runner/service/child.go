package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process"
)

// program is what processes of a service are started from, one at a time.
type program struct {
	opts  *Options
	words []string
	spec  *navvy.Spec
	count atomic.Int64
}

// newProgram reads a command line. Programs cannot be started where they cannot be
// bounded as they are asked to be.
func newProgram(ctx context.Context, line string, o *Options) (*program, error) {
	words, err := Words(line)
	if err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := o.tidy(ctx); err != nil {
		return nil, err
	}
	return &program{opts: o, words: words, spec: o.spec(words)}, nil
}

// task is what the next process is started as.
func (p *program) task() *driver.Task {
	token := p.opts.prefix() + strconv.FormatInt(p.count.Add(1), 10)
	return &driver.Task{ID: navvy.TaskID{Job: navvy.JobID(token)}, Token: token, Spec: p.spec, Tree: p.opts.Tree}
}

// child is a process that serves until it ends.
type child struct {
	proc *process.Servant
	opts *Options
	said *says
	done chan struct{} // closed when nothing of it is left
	end  driver.End    // then
	lost error         // then: how it ended is not known
}

// start starts a process of a program. What it writes to standard error is logged, and
// to standard output too if change sets nobody who takes it.
func (p *program) start(change func(*process.Config)) (*child, error) {
	t := p.task()
	said := &says{log: p.opts.Logger}
	t.Stdout, t.Stderr = said, said
	proc, err := p.opts.Processes.Serve(t, nil, change)
	if err != nil {
		return nil, refused(p.words, err)
	}
	c := &child{proc: proc, opts: p.opts, said: said, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.end, c.lost = proc.Wait(context.Background())
		said.finish()
	}()
	return c, nil
}

// pipe makes a pipe for the standard input of a process. Only our end does not block.
func pipe() (theirs, ours *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("open a pipe: %w", err)
	}
	_ = unix.SetNonblock(fds[1], true) // it is a pipe
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}

// death says how it ended, and what it said last. After its end only.
func (c *child) death() error {
	how := "exit code " + strconv.Itoa(c.end.Exit.Code)
	switch {
	case c.lost != nil:
		how = c.lost.Error()
	case c.end.Usage.OOMKills > 0:
		how = "it needed more memory than its limit"
	case c.end.Exit.Signal != 0:
		how = "signal " + strconv.Itoa(c.end.Exit.Signal)
	}
	if last := c.said.lastLine(); last != "" {
		how += ": " + navvy.Shorten(last)
	}
	return fmt.Errorf("the service died: %s", how)
}

// kill ends it by force, without waiting.
func (c *child) kill() {
	if err := c.proc.Stop(context.Background(), true); err != nil {
		c.opts.Logger.Warn("a process of the service cannot be ended", "pid", c.proc.Pid(), "err", err)
	}
}

// leave waits for its end by itself, for the grace or until ctx ends.
func (c *child) leave(ctx context.Context) bool {
	timer := time.NewTimer(c.opts.Grace)
	defer timer.Stop()
	select {
	case <-c.done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// stop ends it: kindly, and after the grace, or when ctx ends, by force.
func (c *child) stop(ctx context.Context) error {
	err := c.proc.Stop(ctx, false)
	if err == nil && c.leave(ctx) {
		return nil
	}
	return c.force()
}

// force kills it and waits for its end.
func (c *child) force() error {
	c.kill()
	timer := time.NewTimer(driver.StopTimeout)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		return fmt.Errorf("process %d of the service is not over %s after it was killed: %w", c.proc.Pid(), driver.StopTimeout, navvy.ErrUnavailable)
	}
}

// says takes what a service writes about itself: lines for the log, of which the last is
// kept. It takes the two streams of a process at once.
type says struct {
	log *slog.Logger

	mu   sync.Mutex
	line []byte
	last string
}

// maxSaid is how much of a line is kept.
const maxSaid = 4 << 10

// Write implements io.Writer.
func (s *says) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(p)
	for {
		part, rest, found := bytes.Cut(p, []byte("\n"))
		s.line = append(s.line, part[:min(len(part), maxSaid-len(s.line))]...)
		if !found {
			return n, nil
		}
		s.flushLocked()
		p = rest
	}
}

func (s *says) flushLocked() {
	line := strings.ToValidUTF8(string(bytes.TrimSpace(s.line)), "?")
	s.line = s.line[:0]
	if line != "" {
		s.last = line
		s.log.Info("the service says", "line", line)
	}
}

// finish takes what stands behind the last newline.
func (s *says) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushLocked()
}

func (s *says) lastLine() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// away says why a service cannot be invoked now.
func away(why error) error {
	if errors.Is(why, navvy.ErrUnavailable) {
		return why
	}
	return fmt.Errorf("%w: %w", why, navvy.ErrUnavailable)
}
