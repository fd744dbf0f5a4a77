// Package unit keeps processes of this machine up: a unit is a program with its arguments,
// its environment, its directory and its log, which is started again when it ends, after
// pauses that grow. Two managers keep them: systemd, where the user has a running one, and
// navvy's own supervisor, a process that outlives whoever has put a unit, and whose units
// outlive it.
package unit

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// Manager keeps units. Its methods may be called at once, those that change one unit by one
// caller at a time.
type Manager interface {
	// List gives all units, by name.
	List(ctx context.Context) ([]State, error)
	// Put makes a unit what spec says, and starts it; one that is another is ended before. One
	// that is the same and up stays as it is; one that is waited for or was given up is tried
	// now. The program has begun when it returns, which says nothing of how it goes on.
	Put(ctx context.Context, spec *Spec) error
	// Remove ends a unit with all of its session, and forgets it; nil for one that is not
	// there. Its log goes, too.
	Remove(ctx context.Context, name string) error
	// Close lets go of connections. Units stay.
	Close() error
}

// Spec is what a unit is to be.
type Spec struct {
	// Name has 1 to 63 lower-case letters, digits and '-', and begins with one of the former.
	Name string `json:"name"`
	// Args are the program, by its absolute path, and its arguments: everybody on the machine
	// can read them.
	Args []string `json:"args"`
	// Env is the whole environment, but for what the user's systemd has in its own and passes on
	// where it is the manager. Only the user can read where it is kept.
	Env map[string]string `json:"env,omitempty"`
	// Dir is the working directory, by its absolute path. Defaults to /.
	Dir string `json:"dir,omitempty"`
	// Stop is the signal that asks it to end. Defaults to SIGTERM.
	Stop string `json:"stop,omitempty"`
	// Grace is how long it may take then, before it is killed. Defaults to 30 s.
	Grace time.Duration `json:"grace,omitempty"`
	// LogSize is from how many bytes on its log is cut; as many are kept of what was before.
	// Defaults to 8 MiB. Of systemd's journal its own settings say so.
	LogSize int64 `json:"log_size,omitempty"`
	// Notes are for whoever has put it, and come back in State. They are no secrets.
	Notes map[string]string `json:"notes,omitempty"`
}

// Phase is what a unit is about.
type Phase string

// The phases of a unit.
const (
	Up       Phase = "up"       // it runs
	Waiting  Phase = "waiting"  // it has ended, and is started again after a pause
	GaveUp   Phase = "given up" // it has ended too many times in a row
	Stopping Phase = "stopping" // it was asked to end
	Alone    Phase = "alone"    // it runs, and nobody would start it again
	Down     Phase = "down"     // it does not run, and nobody starts it
)

// State is how a unit is.
type State struct {
	Name   string            `json:"name"`
	Digest string            `json:"digest"` // of its Spec, see Spec.Digest
	Notes  map[string]string `json:"notes,omitempty"`
	Phase  Phase             `json:"phase"`
	Pid    int               `json:"pid,omitempty"`    // 0 if it does not run
	Since  time.Time         `json:"since,omitzero"`   // when it began to run, if it does
	Starts int               `json:"starts,omitempty"` // how many times it was started again
	Exit   string            `json:"exit,omitempty"`   // how it has ended last, for people
	Log    string            `json:"log,omitempty"`    // where its output is, or what shows it
}

// Bounds and defaults of a Spec.
const (
	maxName        = 63
	defaultGrace   = 30 * time.Second
	maxGrace       = 24 * time.Hour
	defaultLogSize = 8 << 20
	minLogSize     = 4 << 10
	maxSpec        = 1 << 20 // as JSON
)

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// CheckName checks the name of a unit. The error wraps navvy.ErrInvalid.
func CheckName(name string) error {
	if len(name) > maxName || !nameForm.MatchString(name) {
		return fmt.Errorf("unit %.100q: want 1 to %d lower-case letters, digits and '-', first a letter or digit: %w", name, maxName, navvy.ErrInvalid)
	}
	return nil
}

// Validate checks a spec. The error wraps navvy.ErrInvalid, and names the unit.
func (s *Spec) Validate() error {
	if err := CheckName(s.Name); err != nil {
		return err
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("unit %s: %w: %w", s.Name, fmt.Errorf(format, args...), navvy.ErrInvalid)
	}
	switch {
	case len(s.Args) == 0 || !filepath.IsAbs(s.Args[0]):
		return bad("its program is to be an absolute path")
	case s.Dir != "" && (!filepath.IsAbs(s.Dir) || strings.ContainsAny(s.Dir, "\r\n")):
		return bad("its directory %q is not absolute, or goes over lines", s.Dir)
	case s.Stop != "" && unix.SignalNum(s.Stop) == 0:
		return bad("there is no signal %q", s.Stop)
	case s.Grace < 0 || s.Grace > maxGrace:
		return bad("a grace of %s, want up to %s", s.Grace, maxGrace)
	case s.LogSize != 0 && s.LogSize < minLogSize:
		return bad("a log of %d bytes, want %d at least", s.LogSize, minLogSize)
	}
	if err := s.validateTexts(); err != nil {
		return bad("%w", err)
	}
	return nil
}

// validateTexts refuses what no process can be given.
func (s *Spec) validateTexts() error {
	for _, text := range append([]string{s.Dir}, s.Args...) {
		if strings.ContainsRune(text, 0) {
			return fmt.Errorf("%q holds a zero byte", text)
		}
	}
	for name, value := range s.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(value, 0) {
			return fmt.Errorf("no process can be given a variable %q, or its value", name)
		}
	}
	if text, err := json.Marshal(s); err != nil || len(text) > maxSpec {
		return fmt.Errorf("it takes more than %d bytes", maxSpec)
	}
	return nil
}

// Digest changes with anything that a spec says.
func (s *Spec) Digest() string {
	text, _ := json.Marshal(s) // texts and numbers alone
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

func (s *Spec) environ() []string {
	list := make([]string, 0, len(s.Env))
	for name, value := range s.Env {
		list = append(list, name+"="+value)
	}
	return list
}

func (s *Spec) stopSignal() syscall.Signal {
	if s.Stop == "" {
		return syscall.SIGTERM
	}
	return unix.SignalNum(s.Stop)
}

func (s *Spec) grace() time.Duration { return cmp.Or(s.Grace, defaultGrace) }
func (s *Spec) logSize() int64       { return cmp.Or(s.LogSize, defaultLogSize) }

// down is the state of a unit that nobody looks after.
func (s *Spec) down(log string) State {
	return State{Name: s.Name, Digest: s.Digest(), Notes: maps.Clone(s.Notes), Phase: Down, Log: log}
}
