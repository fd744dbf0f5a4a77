package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
)

// inTask tells whether this is a task's process, which can reach the navvy that runs it.
func (a *app) inTask() bool { return a.env(client.EnvAddr) != "" }

// asTask tells whether a verb of kv speaks with the navvy that runs this task: flags
// that say otherwise win, and what the environment says beside it does not.
func (a *app) asTask() bool {
	return a.inTask() && a.localFlag() == "" && a.remote == remoteFlags{}
}

// withTask calls fn with a connection to the navvy that runs this task, and closes it.
func (a *app) withTask(ctx context.Context, fn func(*conn) error) error {
	if a.reached { // one that has just broken off is not asked at once again
		pauses := awayPauses()
		if err := pauses.Wait(ctx); err != nil {
			return err
		}
	}
	dialing, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	remote, err := client.DialTask(dialing, a.env(client.EnvAddr), a.env(client.EnvTaskToken))
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", err, navvy.ErrUnavailable)
	}
	if err != nil {
		return taskHint(err)
	}
	a.reached = true
	c := &conn{Client: client.New(remote), app: a, need: needLook, remote: remote}
	return errors.Join(taskHint(fn(c)), c.close(ctx))
}

// taskHint says what can be done about an error that a task gets.
func taskHint(err error) error {
	switch {
	case errors.Is(err, navvy.ErrUnavailable):
		return withHint(err, "the worker tries to reach its server again all the time; so may the task, after a while")
	case errors.Is(err, navvy.ErrLeaseLost):
		return withHint(err, "the task runs elsewhere by now, or was stopped: what this attempt does counts no more")
	}
	return err
}

// lookFromTask says to a task that looks for jobs that it sees none: it would only be
// told of a data directory that is not there.
func (a *app) lookFromTask() error {
	if !a.inTask() || a.env("NAVVY_DATA") != "" || a.env("NAVVY_STORE") != "" || a.localFlag() != "" {
		return nil
	}
	if path, err := a.dataPath(); err == nil {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return nil //nolint:nilerr // what is wrong with it shows when it is used
		}
	}
	return withHint(fmt.Errorf("this is a task, which may use navvy kv and nothing else of the navvy that runs it: %w", navvy.ErrDenied),
		"for jobs of a server give --server, --cert, --key and --ca; for data of this machine --data")
}
