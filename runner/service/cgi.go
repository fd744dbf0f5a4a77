package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// EnvRequest is where a cgi program finds the id of its request, if that can be in an environment.
const EnvRequest = "NAVVY_REQUEST"

// maxRequestID is how long an id may be to be put into an environment.
const maxRequestID = 1 << 10

// cgi starts a program for each request.
type cgi struct {
	*program
	raw   bool // it answers with its output alone
	limit int  // of what it may write

	mu      sync.Mutex
	closed  bool
	ctx     context.Context // of all that runs: Close ends it
	quit    context.CancelCauseFunc
	running sync.WaitGroup
}

func openCGI(ctx context.Context, line string, o *Options) (Service, error) {
	return newCGI(ctx, line, o, false)
}

func openRawCGI(ctx context.Context, line string, o *Options) (Service, error) {
	return newCGI(ctx, line, o, true)
}

func newCGI(ctx context.Context, line string, o *Options, raw bool) (Service, error) {
	p, err := newProgram(ctx, line, o)
	if err != nil {
		return nil, err
	}
	p.spec.Command.Stdin = true
	c := &cgi{program: p, raw: raw, limit: o.MaxAnswer}
	if o.Limits.Output > 0 {
		c.limit = int(min(o.Limits.Output, int64(c.limit)))
	}
	c.ctx, c.quit = context.WithCancelCause(context.WithoutCancel(ctx))
	return c, nil
}

// Ready implements Service: a program is started for each request, and is never away.
func (c *cgi) Ready(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	return context.Cause(ctx)
}

// Close implements Service: programs that run are asked to end.
func (c *cgi) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.quit(errClosed)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		c.running.Wait()
	}()
	timer := time.NewTimer(c.opts.Grace + driver.StopTimeout)
	defer timer.Stop()
	select {
	case <-gone:
		return nil
	case <-timer.C:
		return fmt.Errorf("service: programs are not over long after they were killed: %w", navvy.ErrUnavailable)
	case <-ctx.Done():
	}
	if err := c.opts.Processes.EndBearers(context.WithoutCancel(ctx), c.ours); err != nil {
		return fmt.Errorf("service: end programs: %w", err)
	}
	<-gone
	return nil
}

// ours tells whether a token is that of a process of this service.
func (c *cgi) ours(token string) bool { return strings.HasPrefix(token, c.opts.prefix()) }

// enter counts an invocation that begins, unless the service is closed.
func (c *cgi) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.running.Add(1)
	}
	return !c.closed
}

// Invoke implements Service.
func (c *cgi) Invoke(ctx context.Context, r *Request) ([]byte, error) {
	if !c.enter() {
		return nil, errClosed
	}
	defer c.running.Done()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.ctx, func() { cancel(errClosed) })()
	if c.opts.Timeout > 0 {
		timer := time.AfterFunc(c.opts.Timeout, func() { cancel(&tooMuch{"it was ended: it took longer than " + c.opts.Timeout.String()}) })
		defer timer.Stop()
	}
	out := &collected{room: c.limit, full: func() {
		cancel(&tooMuch{"it was ended: it wrote more than " + strconv.Itoa(c.limit) + " bytes"})
	}}
	end, err := c.run(ctx, r, out)
	broken, over := errors.AsType[*tooMuch](context.Cause(ctx))
	refusal, refused := errors.AsType[*driver.Refusal](err)
	switch {
	case over && err == nil:
		return c.answer(out, nil, broken.Error())
	case ctx.Err() != nil && !over:
		return nil, context.Cause(ctx)
	case refused:
		return c.answer(out, nil, refusal.Message)
	case err != nil:
		return nil, away(err)
	case end.Refusal != nil:
		return c.answer(out, nil, end.Refusal.Message)
	case end.Usage.OOMKills > 0:
		return c.answer(out, nil, "it was killed: it needed more memory than its limit")
	}
	code := end.Exit.Code
	if end.Exit.Signal != 0 {
		code = 128 + end.Exit.Signal // as a shell has it
	}
	return c.answer(out, &code, "")
}

// tooMuch is why a program was ended that has used up its time or its room.
type tooMuch struct{ message string }

// Error is the message.
func (t *tooMuch) Error() string { return t.message }

// run runs the program to its end, which comes soon after that of ctx.
func (c *cgi) run(ctx context.Context, r *Request, out *collected) (driver.End, error) {
	t := c.task()
	t.Input, t.Attempt.Number = r.Body, uint32(max(r.Attempt, 0))
	if t.Input == nil {
		t.Input = []byte{}
	}
	t.Stdout, t.Stderr = &out.streams[0], &out.streams[1]
	out.streams[0].of, out.streams[1].of = out, out
	if c.raw {
		out.streams[1].beside = r.Stderr
	}
	t.Env = traceEnv(ctx)
	if r.ID != "" && len(r.ID) <= maxRequestID && strings.IndexByte(r.ID, 0) < 0 {
		t.Env = append(t.Env, EnvRequest+"="+r.ID)
	}
	x, err := c.opts.Processes.Start(ctx, t)
	if err != nil {
		return driver.End{}, err
	}
	ended := make(chan struct{})
	stopped := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		defer close(stopped)
		c.stop(x, ended, r.Force)
	})
	end, err := x.Wait(context.WithoutCancel(ctx))
	close(ended)
	if !unwatch() {
		<-stopped
	}
	return end, err
}

// stop ends a program: kindly, and after the grace, or when hurry is closed, by force.
func (c *cgi) stop(x driver.Execution, ended, hurry <-chan struct{}) {
	ctx := context.Background()
	err := x.Stop(ctx, false)
	timer := time.NewTimer(c.opts.Grace)
	defer timer.Stop()
	if err == nil {
		select {
		case <-ended:
			return
		case <-hurry:
		case <-timer.C:
		}
	}
	if err := x.Stop(ctx, true); err != nil {
		c.opts.Logger.Warn("a program of the service cannot be ended", "err", err)
	}
}

// result is the contract's answer of a program.
type result struct {
	ExitCode  *int
	Stdout    string
	Stderr    string
	Exception *string
}

// answer makes the answer of a program that ended with a code, or did not run as it
// should, of which exception says why.
func (c *cgi) answer(out *collected, code *int, exception string) ([]byte, error) {
	stdout, stderr := out.streams[0].b, out.streams[1].b
	if c.raw {
		switch {
		case exception != "":
			return nil, failf("%s: %s", c.words[0], exception)
		case *code != 0:
			said := &says{log: c.opts.Logger}
			_, _ = said.Write(stderr)
			said.finish()
			if last := said.lastLine(); last != "" {
				return nil, failf("%s: exit code %d: %s", c.words[0], *code, navvy.Shorten(last))
			}
			return nil, failf("%s: exit code %d", c.words[0], *code)
		}
		if stdout == nil {
			stdout = []byte{}
		}
		return stdout, nil
	}
	r := result{ExitCode: code, Stdout: string(stdout), Stderr: string(stderr)}
	if exception != "" {
		r.Exception = &exception
	}
	return encode(&r)
}

// encode writes JSON in one line, with characters as they are.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("service: write an answer: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// collected is what a program has written, up to a bound for both streams together.
type collected struct {
	mu      sync.Mutex
	room    int
	full    func()
	streams [2]kept
}

// kept is one stream of it.
type kept struct {
	of     *collected
	b      []byte
	beside io.Writer // gets the same; nil if nobody does
}

// Write implements io.Writer.
func (k *kept) Write(p []byte) (int, error) {
	n, err := k.keep(p)
	if k.beside != nil {
		if _, err := k.beside.Write(p[:n]); err != nil {
			k.beside = nil
		}
	}
	return n, err
}

func (k *kept) keep(p []byte) (int, error) {
	k.of.mu.Lock()
	defer k.of.mu.Unlock()
	n := min(len(p), k.of.room)
	k.b = append(k.b, p[:n]...)
	if k.of.room -= n; n < len(p) {
		k.of.full()
		return n, errFull
	}
	return n, nil
}

var errFull = errors.New("service: there is no room for more output")
