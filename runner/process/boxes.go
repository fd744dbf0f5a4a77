package process

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// boxes are where a driver's attempts run that are isolated or have a directory of
// their own: their users, their private directories, and the plan of the job that
// was seen last.
type boxes struct {
	host  *isolate.Host // nil: nothing is isolated
	work  string        // empty: there are no private directories
	users func() (*isolate.Users, error)
	dirs  func() (*isolate.WorkDirs, error)

	mu   sync.Mutex
	of   planned
	plan *isolate.Plan
	kept navvy.JobID // whose user is kept between its attempts: to find a free one, all processes are looked at
	free func()      // lets go of it
}

// planned is what a plan is for.
type planned struct {
	spec    *navvy.Spec
	uid     int
	program string // if it has an absolute path
	socket  string // if there is one
	shown   string // directories that it sees
	tree    string // in which it starts
}

// sights are directories that an attempt sees beside its own: others at their places, and
// some in its working directory.
type sights struct {
	see    []string
	mounts []driver.Mount
}

func newBoxes(host *isolate.Host, work string) *boxes {
	return &boxes{
		host:  host,
		work:  work,
		users: sync.OnceValues(func() (*isolate.Users, error) { return isolate.OpenUsers(isolate.DefaultUsersDir) }),
		dirs:  sync.OnceValues(func() (*isolate.WorkDirs, error) { return isolate.OpenWorkDirs(work) }),
	}
}

// boxed tells whether the spec needs a plan.
func boxed(s *navvy.Spec) bool {
	return s.Isolate || s.Network == navvy.NetworkNone || len(s.Limits.Ulimits) > 0
}

// private tells whether an attempt gets a directory of its own.
func private(s *navvy.Spec) bool { return s.Command.Dir == "" }

// check refuses what these boxes have not got.
func (b *boxes) check(s *navvy.Spec) error {
	switch {
	case boxed(s) && (b == nil || b.host == nil):
		return &driver.Refusal{Reason: navvy.ReasonStart, Message: "isolation and ulimits are not used here"}
	case private(s) && (b == nil || b.work == ""):
		return &driver.Refusal{Reason: navvy.ReasonStart, Message: "there is no place for working directories of attempts here; name one"}
	}
	return nil
}

// enter gives an attempt what its spec asks for of isolation, with directories that it
// sees all the same, and a directory of its own if it names none, in c. leave takes it back, when nothing of the attempt
// is left; it is never nil.
func (b *boxes) enter(t *driver.Task, show *sights, c *Config) (leave func() error, err error) {
	leave = func() error { return nil }
	if !boxed(t.Spec) && !private(t.Spec) {
		return leave, nil
	}
	if err := b.check(t.Spec); err != nil {
		return leave, err
	}
	uid := 0
	if t.Spec.Isolate && b.host.Users() {
		var release func()
		if uid, release, err = b.user(t.ID.Job); err != nil {
			return leave, err
		}
		leave = func() error { release(); return nil }
	}
	if private(t.Spec) {
		made, err := b.workDir(t.Token, uid, c)
		if err != nil {
			return leave, errors.Join(err, leave())
		}
		release := leave
		leave = func() error { return errors.Join(made.Remove(t.Token), release()) }
	}
	if !boxed(t.Spec) {
		return leave, nil
	}
	if c.Plan, err = b.planFor(t, show, uid, c.Args); err != nil {
		return leave, errors.Join(err, leave())
	}
	return leave, nil
}

// user gives an attempt the user of its job, which the job that was seen last keeps.
func (b *boxes) user(job navvy.JobID) (uid int, release func(), err error) {
	users, err := b.users()
	if err != nil {
		return 0, nil, err
	}
	if uid, release, err = users.Acquire(job); err != nil {
		return 0, nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept == job {
		return uid, release, nil
	}
	b.letGo()
	if _, b.free, err = users.Acquire(job); err == nil {
		b.kept = job
	}
	return uid, release, nil
}

// letGo frees the user that is kept. mu is held.
func (b *boxes) letGo() {
	if b.free != nil {
		b.free()
	}
	b.free, b.kept = nil, ""
}

// workDir makes the private directory of an attempt, and c start in it.
func (b *boxes) workDir(token string, uid int, c *Config) (*isolate.WorkDirs, error) {
	dirs, err := b.dirs()
	if err != nil {
		return nil, err
	}
	c.Dir, err = dirs.Make(token, uid)
	return dirs, err
}

// planFor returns the plan of such attempts. Those of a job are alike, as a rule.
func (b *boxes) planFor(t *driver.Task, show *sights, uid int, args []string) (*isolate.Plan, error) {
	spec := t.Spec
	of := planned{spec: spec, uid: uid}
	if spec.Isolate && t.API != nil {
		of.socket = t.API.Socket
	}
	var box isolate.Box
	if spec.Isolate {
		of.tree, box.See = t.Tree, show.see
		of.shown = strings.Join(show.see, "\x00")
		for _, m := range show.mounts {
			of.shown += "\x00\x00" + m.Source + "\x00" + m.Path
			box.Mounts = append(box.Mounts, isolate.Mount(m))
		}
	}
	if len(args) > 0 && filepath.IsAbs(args[0]) {
		of.program = args[0]
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.plan != nil && b.of == of {
		return b.plan, nil
	}
	box.Isolate, box.UID, box.Network, box.Ulimits = spec.Isolate, uid, spec.Network, spec.Limits.Ulimits
	box.Dir, box.Private = spec.Command.Dir, spec.Isolate && private(spec)
	box.Program, box.Socket, box.Tree = of.program, of.socket, of.tree
	plan, err := b.host.Plan(box)
	switch {
	case errors.Is(err, navvy.ErrUnsupported):
		return nil, &driver.Refusal{Reason: navvy.ReasonStart, Message: err.Error()}
	case errors.Is(err, navvy.ErrInvalid):
		return nil, &driver.Refusal{Reason: navvy.ReasonInput, Message: err.Error()}
	case err != nil:
		return nil, err
	}
	// The one before may be in use: it goes with the last who holds it.
	b.of, b.plan = of, plan
	return plan, nil
}

// socketOf is where an attempt sees the socket of its navvy; empty if there is none.
func socketOf(t *driver.Task, c *Config) string {
	switch {
	case t.API == nil:
		return ""
	case c.Plan != nil:
		return c.Plan.Socket(t.API.Socket)
	}
	return t.API.Socket
}

// clear removes what an attempt of an earlier process has left.
func (b *boxes) clear(token string) error {
	if b == nil || token == "" || !b.used() {
		return nil
	}
	dirs, err := b.dirs()
	if err != nil {
		return err
	}
	return dirs.Remove(token)
}

// close gives back what is kept, and removes what is left of private directories,
// when nothing runs any more.
func (b *boxes) close() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	b.letGo()
	b.mu.Unlock()
	if !b.used() {
		return nil
	}
	dirs, err := b.dirs()
	if err != nil {
		return err
	}
	tokens, err := dirs.List()
	for _, token := range tokens {
		err = errors.Join(err, dirs.Remove(token))
	}
	return err
}

// used tells whether there have ever been private directories.
func (b *boxes) used() bool {
	_, err := os.Lstat(b.work)
	return err == nil
}
