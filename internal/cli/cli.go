package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/quantity"
)

// app is one run of the command line.
type app struct {
	version string
	in      io.Reader
	out     io.Writer
	wrote   atomic.Int64 // bytes on out
	err     io.Writer
	env     func(string) string
	environ func() []string
	// patience is how long somebody else may take to begin serving, or to leave.
	patience time.Duration

	terminal *os.File // standard error, if it is one
	screen   *screen  // what it shows

	remote  remoteFlags // --server and its kin
	reached bool        // a server has answered
	away    bool        // it was said that the server is
	waits   bool        // what is done takes as long as a job does

	data   string // --data
	store  string // --store
	policy string // --policy
	python pythonFlags
	engine string // --engine
	quiet  bool

	forOthers bool // it runs tasks of other users

	passing  bool        // the server of the run goes with it
	catching atomic.Bool // an attachment sees to signals
}

// Main runs the command line of this process and returns its exit code.
func Main(version string) int {
	a := &app{version: version, in: os.Stdin, err: os.Stderr, env: os.Getenv, environ: os.Environ, patience: handover}
	a.out = &counter{w: os.Stdout, n: &a.wrote}
	a.useTerminal(os.Stdout, os.Stderr)
	// A reader that has gone is an error of the write, which holds the job, and
	// not our death. Caught, not ignored: what we start must not inherit it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if os.Getenv("GOGC") == "" {
		tuneGC()
	}
	return a.main(context.Background(), os.Args[1:])
}

// counter counts what goes through it.
type counter struct {
	w io.Writer
	n *atomic.Int64
}

// Write passes p on.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// main runs one command line.
func (a *app) main(ctx context.Context, args []string) int {
	root := newRoot(a)
	root.SetArgs(args)
	return a.report(root.ExecuteContext(ctx))
}

// report says what went wrong, and gives the exit code.
func (a *app) report(err error) int {
	code := exitCode(err)
	if exit, ok := errors.AsType[*exitError](err); ok {
		code, err = exit.code, exit.err
	} else if errors.Is(err, syscall.EPIPE) {
		return exitPipe
	}
	if err != nil {
		a.complain(err)
	}
	return code
}

// exitPipe is the exit code when nobody reads what we print, as if SIGPIPE had ended us.
const exitPipe = 128 + int(syscall.SIGPIPE)

// exitError ends the command line with a code of its own. err may be nil: all has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return "exit " + strconv.Itoa(e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError is a mistake in the command line itself.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func exitCode(err error) int {
	if _, usage := errors.AsType[*usageError](err); usage {
		return api.ExitUsage
	}
	return api.ExitCode(err)
}

// complain tells the user what went wrong, and where there is one a way out.
// Words of other machines, such as the end of a log, cannot steer the terminal.
func (a *app) complain(err error) {
	message := err.Error()
	// The sentinel at the end says what the message has said already.
	for _, sentinel := range []error{navvy.ErrInvalid, navvy.ErrUnavailable, navvy.ErrConflict, navvy.ErrDenied, navvy.ErrUnsupported, navvy.ErrExhausted} {
		if errors.Is(err, sentinel) {
			message = strings.TrimSuffix(message, ": "+sentinel.Error())
		}
	}
	a.tell("navvy: %s\n", format.PrintableLines(message))
	if hint, ok := errors.AsType[*hintError](err); ok {
		a.tell("hint: %s\n", hint.hint)
	}
}

// say tells the user something in passing.
func (a *app) say(text string, args ...any) {
	if !a.quiet {
		a.tell("navvy: %s\n", format.PrintableLines(fmt.Sprintf(text, args...)))
	}
}

// tell writes to standard error; if that fails there is nobody left to tell.
func (a *app) tell(format string, args ...any) { _, _ = fmt.Fprintf(a.err, format, args...) }

// count is a number of things.
func count(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return format.Count(n) + " " + thing
}

// hintError adds what the user can do.
type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }

func withHint(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// dir opens the data directory that flags and environment name.
func (a *app) dir() (*holder.Dir, error) {
	path, err := a.dataPath()
	if err != nil {
		return nil, err
	}
	return holder.OpenDir(path)
}

// expectData refuses a data directory that was given by name and is not there:
// looking does not make it.
func (a *app) expectData() error {
	if a.data == "" {
		return nil
	}
	if _, err := os.Stat(a.data); errors.Is(err, fs.ErrNotExist) {
		return noData(a.data)
	}
	return nil
}

// noData says that nobody has kept anything in a directory.
func noData(path string) error {
	return withHint(fmt.Errorf("there is no navvy data in %s: %w", path, navvy.ErrNotFound), "give another directory with --data, or in NAVVY_DATA")
}

func (a *app) dataPath() (string, error) {
	if a.data != "" {
		return a.data, nil
	}
	if path := a.env("NAVVY_DATA"); path != "" {
		return path, nil
	}
	path, err := a.statePath()
	return filepath.Join(path, "navvy"), err
}

// statePath is where programs of this user keep what they have to remember.
func (a *app) statePath() (string, error) {
	if state := a.env("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return state, nil
	}
	if home := a.env("HOME"); home != "" {
		return filepath.Join(home, ".local", "state"), nil
	}
	return "", withHint(fmt.Errorf("there is no place for navvy's data: HOME is not set: %w", navvy.ErrInvalid), "give a directory with --data, or in NAVVY_DATA")
}

// owner is the name that this user's jobs bear.
func owner() string {
	uid := strconv.Itoa(os.Geteuid())
	if u, err := user.LookupId(uid); err == nil && len(u.Username) <= navvy.MaxJobName {
		return u.Username
	}
	return "uid-" + uid
}

// logger takes what is worth telling beside the answers: warnings to standard error.
func (a *app) logger() *slog.Logger {
	level := slog.LevelWarn
	if a.env("NAVVY_DEBUG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
}

// setting reads a duration from the environment.
func (a *app) duration(name string, fallback time.Duration) (time.Duration, error) {
	text := a.env(name)
	if text == "" {
		return fallback, nil
	}
	d, err := quantity.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, usagef("%s is %q: want a duration such as 36h or 7d", name, text)
	}
	return d, nil
}

// size reads a number of bytes from the environment: 500M, 20G, 1T; 0 if it is not set.
func (a *app) size(name string) (int64, error) {
	text := a.env(name)
	if text == "" {
		return 0, nil
	}
	n, err := quantity.ParseSize(text)
	if err != nil || n <= 0 {
		return 0, usagef("%s is %q: want a size such as 500M or 20G", name, text)
	}
	return n, nil
}
