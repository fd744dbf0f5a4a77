// Package service runs a user's own service: made ready once, invoked many times at
// once, disposed of. It is one instance in each worker, in any language: a program for
// each request (cgi), one that answers line by line (lines), or a gRPC server. What a
// service is, and what it can expect, is in docs/services.md.
//
// A service that dies is started again. Open fails if it does not come up in the first
// place; later deaths show in Ready, and in the errors of Invoke.
package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process"
)

// Service is one instance of a user's service. Invoke and Ready may be called by any
// number of goroutines at once.
type Service interface {
	// Invoke has the service answer one request. The answer belongs to the caller.
	//
	// A *Failure says that the service failed this request. An error that wraps
	// navvy.ErrUnavailable says that the service is away, and the request is not to blame.
	// When ctx ends the error is its cause, and there is no answer: the service is told
	// as far as it can be, and the request belongs back in its queue. After Close the
	// error wraps navvy.ErrClosed.
	Invoke(ctx context.Context, r *Request) (answer []byte, err error)

	// Ready waits until the service can be invoked. It gives the cause of ctx when that
	// ends, and navvy.ErrClosed after Close. Whoever takes requests from a queue asks
	// first, so that requests wait there while the service is away.
	Ready(ctx context.Context) error

	// Close disposes of the service and ends what was started for it, first kindly and
	// after Options.Grace by force. When ctx ends there is no more kindness. Calls of
	// Invoke that still run fail.
	Close(ctx context.Context) error
}

// Request is one request to a service.
type Request struct {
	// ID is the request's id as its queue has it. It need not be unique, and may be empty.
	ID string
	// Attempt is how many times the request was begun, with this one; 0 if that is not known.
	Attempt int
	// Body is what the user has sent. It is not changed, and not kept after Invoke.
	Body []byte
	// Stderr takes what a program of cgi-raw writes to standard error for this request, as
	// it comes. A Write may block, and an error from it drops the rest. Nil drops it, as
	// other forms do, whose processes serve more than one request.
	Stderr io.Writer
	// Force is closed when whoever has cancelled the request does not wait for the grace of
	// a program of its own any more. Nil: they do.
	Force <-chan struct{}
}

// Failure is the service's own failure of one request.
type Failure struct {
	// Message says what happened.
	Message string
	// Final says that it will be so each time: the request is no good for this service.
	Final bool

	// crowd is how many requests were worked on, with this one, when the service died or
	// was ended for what it wrote; 0 if it was not.
	crowd int
}

// Error is the message.
func (f *Failure) Error() string { return f.Message }

// failf makes a failure that another try may mend.
func failf(format string, args ...any) error {
	return &Failure{Message: fmt.Sprintf(format, args...)}
}

// Options configure Open.
type Options struct {
	// Processes starts programs, and is closed after the service by whoever made it.
	// Required for the forms with a command.
	Processes *process.Driver
	// Name begins the names of processes: what an earlier navvy of that name has left of
	// its service is ended by Open. No two services that live may have the same. Letters,
	// digits and ".-:" only. Defaults to one of its own, after which nobody comes.
	Name string
	// Env is the environment of programs, NAME=VALUE each, as navvy.Command has it.
	// Defaults to the usual few names.
	Env []string
	// Dir is the absolute working directory of programs. Defaults to a private one for
	// each process, which needs a driver with a directory for these.
	Dir string
	// Tree is the absolute path of a directory that programs start in, in place of Dir: each
	// has a private one beside it, as its home. Isolated ones cannot write to it. Nobody may
	// remove it before Close has returned. Defaults to none.
	Tree string
	// Limits bound what each process uses. Its Output bounds what a cgi program may
	// write; MaxAnswer does otherwise.
	Limits navvy.Limits
	// Isolate and Network set processes apart, as in navvy.Spec.
	Isolate bool
	Network string
	// Concurrency is how many invocations run at once, for the service to know. Defaults to unknown.
	Concurrency int
	// Timeout bounds one invocation. Defaults to none.
	Timeout time.Duration
	// StartTimeout bounds how long the service may take to come up. Defaults to 30 s.
	StartTimeout time.Duration
	// Settle is how long a process of lines is watched before it is given anything, so that
	// one that dies of its own start is told from one that dies of a request. Defaults to 200 ms.
	Settle time.Duration
	// Patience is how long an invocation waits for a service that is away. Defaults to 1 s.
	Patience time.Duration
	// Grace is how long the service may take to end before it is killed, and to let go of
	// an invocation that was cancelled. Defaults to navvy.DefaultGrace.
	Grace time.Duration
	// MaxAnswer is how long an answer may be, in bytes. Defaults to 16 MiB.
	MaxAnswer int
	// Logger takes what the service writes to standard error, and what happens to it.
	// Defaults to dropping it.
	Logger *slog.Logger

	fresh bool // nobody has had the name before
}

// The defaults of Options.
const (
	defaultStartTimeout = 30 * time.Second
	defaultSettle       = 200 * time.Millisecond
	defaultPatience     = time.Second
	defaultMaxAnswer    = 16 << 20
)

// withDefaults is a copy in which everything is set.
func (o *Options) withDefaults() *Options {
	c := Options{}
	if o != nil {
		c = *o
	}
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&c.StartTimeout, defaultStartTimeout)
	set(&c.Settle, defaultSettle)
	set(&c.Patience, defaultPatience)
	set(&c.Grace, navvy.DefaultGrace)
	if c.MaxAnswer <= 0 {
		c.MaxAnswer = defaultMaxAnswer
	}
	if c.Name == "" {
		c.Name, c.fresh = rand.Text(), true
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &c
}

// form is one kind of service: what stands before the colon of a spec.
type form struct {
	name  string
	usage string // what stands behind the name
	check func(rest string) error
	open  func(ctx context.Context, rest string, o *Options) (Service, error)
}

// forms are all there are.
func forms() []form {
	return []form{
		{"echo", "", func(string) error { return nil }, openEcho},
		{"cgi", ":CMD", checkWords, openCGI},
		{"cgi-raw", ":CMD", checkWords, openRawCGI},
		{"lines", ":CMD", checkWords, openLines},
		{"lines-json", ":CMD", checkWords, openJSONLines},
		{"grpc", ":HOST:PORT or :unix:PATH", checkAddress, openGRPC},
		{"grpc-cmd", ":CMD", checkWords, openGRPCCommand},
		{"grpc-tcp-cmd", ":CMD", checkWords, openGRPCPort},
		{"grpc-any", ":HOST:PORT or :unix:PATH", checkAddress, openAny},
		{"grpc-any-cmd", ":ADDRESS CMD", checkAddressed, openAnyCommand},
	}
}

// Forms lists how a spec can be written, for help and messages.
func Forms() []string {
	var list []string
	for _, f := range forms() {
		list = append(list, f.name+f.usage)
	}
	return list
}

// Open makes the service of a spec ready: echo, cgi:CMD, cgi-raw:CMD, lines:CMD,
// lines-json:CMD, grpc:ADDRESS, grpc-cmd:CMD, grpc-tcp-cmd:CMD, grpc-any:ADDRESS or
// grpc-any-cmd:ADDRESS CMD.
// CMD is words as a shell splits them, but no shell: see docs/services.md.
//
// ctx bounds Open alone. The error wraps navvy.ErrInvalid if the spec is wrong, and
// navvy.ErrUnavailable if the service does not come up; nothing of it is left then.
func Open(ctx context.Context, spec string, o *Options) (Service, error) {
	f, rest, err := formOf(spec)
	if err != nil {
		return nil, err
	}
	s, err := f.open(ctx, rest, o.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", f.name, err)
	}
	return s, nil
}

// Check refuses what Open would refuse on any host, and starts nothing. The error wraps
// navvy.ErrInvalid, or navvy.ErrUnsupported for an address of another machine.
func Check(spec string) error {
	f, rest, err := formOf(spec)
	if err != nil {
		return err
	}
	if err := f.check(rest); err != nil {
		return fmt.Errorf("service %s: %w", f.name, err)
	}
	return nil
}

// Program is the program that a spec names, as it is written there; empty if it names none.
func Program(spec string) string {
	f, rest, err := formOf(spec)
	if err != nil || !strings.Contains(f.usage, "CMD") {
		return ""
	}
	if strings.Contains(f.usage, "ADDRESS") {
		if _, rest, err = cutAddress(rest); err != nil {
			return ""
		}
	}
	words, err := Words(rest)
	if err != nil {
		return ""
	}
	return words[0]
}

// formOf finds the form of a spec, and what stands behind its name.
func formOf(spec string) (f form, rest string, err error) {
	name, rest, found := strings.Cut(spec, ":")
	for _, f := range forms() {
		if f.name != name {
			continue
		}
		if found != (f.usage != "") {
			return f, "", fmt.Errorf("service %q: write %s%s: %w", spec, f.name, f.usage, navvy.ErrInvalid)
		}
		return f, rest, nil
	}
	return form{}, "", fmt.Errorf("service %q: no such form; write one of %s: %w", spec, strings.Join(Forms(), ", "), navvy.ErrInvalid)
}

func checkWords(line string) error {
	_, err := Words(line)
	return err
}

func checkAddress(address string) error {
	_, err := parseAddress(address)
	return err
}

func checkAddressed(rest string) error {
	_, line, err := cutAddress(rest)
	if err != nil {
		return err
	}
	return checkWords(line)
}

// echo answers each request with its body.
type echo struct{ closed chan struct{} }

func openEcho(context.Context, string, *Options) (Service, error) {
	return &echo{closed: make(chan struct{})}, nil
}

// Invoke implements Service.
func (e *echo) Invoke(ctx context.Context, r *Request) ([]byte, error) {
	if err := e.Ready(ctx); err != nil {
		return nil, err
	}
	return append([]byte{}, r.Body...), nil
}

// Ready implements Service.
func (e *echo) Ready(ctx context.Context) error {
	select {
	case <-e.closed:
		return errClosed
	default:
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// Close implements Service.
func (e *echo) Close(context.Context) error {
	select {
	case <-e.closed:
	default:
		close(e.closed)
	}
	return nil
}

// errClosed says that there is no service any more.
var errClosed = fmt.Errorf("service: it was disposed of: %w", navvy.ErrClosed)

// check refuses a program that this host cannot bound as it is asked to.
func (o *Options) check() error {
	if o.Processes == nil {
		return fmt.Errorf("programs cannot be started here: %w", navvy.ErrUnsupported)
	}
	caps := o.Processes.Capabilities()
	if refusal := caps.Refuse(o.spec(nil)); refusal != nil {
		return fmt.Errorf("%s: %w", refusal.Message, navvy.ErrUnsupported)
	}
	return nil
}

// spec is what a program of the service is started as.
func (o *Options) spec(words []string) *navvy.Spec {
	return &navvy.Spec{
		Command: &navvy.Command{Args: words, Literal: true, Env: o.Env, Dir: o.Dir},
		Limits:  o.Limits, Isolate: o.Isolate, Network: o.Network,
	}
}

// mark stands behind the name in the token of a service's process.
const mark = "-service."

// prefix begins the tokens of this service's processes.
func (o *Options) prefix() string { return o.Name + mark }

// tidy ends what an earlier navvy of this name has left.
func (o *Options) tidy(ctx context.Context) error {
	if o.fresh {
		return nil
	}
	err := o.Processes.EndBearers(ctx, func(token string) bool { return strings.HasPrefix(token, o.prefix()) })
	if err != nil {
		return fmt.Errorf("end what an earlier navvy has left of the service: %w", err)
	}
	return nil
}

// refused is the error of a program that could not be started.
func refused(words []string, err error) error {
	if refusal, ok := errors.AsType[*driver.Refusal](err); ok {
		return fmt.Errorf("%w: %w", refusal, navvy.ErrInvalid)
	}
	return fmt.Errorf("start %s: %w: %w", words[0], err, navvy.ErrUnavailable)
}
