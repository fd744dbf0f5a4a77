package unit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/navvy-run/navvy"
)

// Names in the directory of a manager. Units are files NAME.json.
const (
	unitSuffix = ".json"
	runDir     = "run" // which process is whose
	logDir     = "log"
	lockName   = "lock"
	socketName = "socket"
	ownLog     = "supervisor.log"
)

// recordVersion is the version of the records on disk.
const recordVersion = 1

// record is a unit on disk.
type record struct {
	Version int  `json:"version"`
	Spec    Spec `json:"spec"`
	// Removing says that it was to go, and nobody has finished that.
	Removing bool `json:"removing,omitempty"`
	// Pending says that it was to become what Spec says, and nobody has finished that.
	Pending bool `json:"pending,omitempty"`

	damaged error // why there is nothing but the name; nil if there is
}

// trace is what a process is found again by.
type trace struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // in ticks since the machine came up
	Boot  string `json:"boot"`  // which time it came up
	// Digest is of the Spec that it was started for.
	Digest string `json:"digest"`
}

// now tells whether the trace is of this time that the machine is up.
func (t *trace) now() bool { return t.Pid != 0 && t.Boot == bootID() }

// openDir makes a manager's directory, closed to others.
func openDir(dir string) error {
	for _, name := range []string{dir, filepath.Join(dir, runDir), filepath.Join(dir, logDir)} {
		if err := os.MkdirAll(name, 0o700); err != nil {
			return fmt.Errorf("units: %w", err)
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("units: %w", err)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("units: others may enter %s: make it yours alone (chmod 700): %w", dir, navvy.ErrDenied)
	}
	return nil
}

func unitFile(dir, name string) string  { return filepath.Join(dir, name+unitSuffix) }
func traceFile(dir, name string) string { return filepath.Join(dir, runDir, name+unitSuffix) }
func logFile(dir, name string) string   { return filepath.Join(dir, logDir, name+".log") }

// oldLog is where what was cut off a log is.
func oldLog(path string) string { return path + ".1" }

// readUnits reads all units of a directory, by name, with those whose records are damaged;
// none of a directory that is not there.
func readUnits(dir string) ([]record, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("units: %w", err)
	}
	var list []record
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), unitSuffix)
		if !ok || CheckName(name) != nil {
			continue
		}
		r, err := readUnit(dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just gone
		} else if err != nil {
			r = &record{Spec: Spec{Name: name}, damaged: err}
		}
		list = append(list, *r)
	}
	slices.SortFunc(list, func(a, b record) int { return strings.Compare(a.Spec.Name, b.Spec.Name) })
	return list, nil
}

func readUnit(dir, name string) (*record, error) {
	path := unitFile(dir, name)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r, err := parseUnit(text)
	if err == nil && r.Spec.Name != name {
		err = fmt.Errorf("it is of a unit %q: %w", r.Spec.Name, navvy.ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("unit %s: %s: %w", name, path, err)
	}
	return r, nil
}

// parseUnit reads a record. The error wraps navvy.ErrCorrupt.
func parseUnit(text []byte) (*record, error) {
	r := new(record)
	if err := ParseJSON(text, recordVersion, r); err != nil {
		return nil, err
	}
	if err := r.Spec.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, navvy.ErrCorrupt)
	}
	return r, nil
}

// writeUnit makes a record durable.
func writeUnit(dir string, r *record) error {
	r.Version = recordVersion
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := WriteFile(unitFile(dir, r.Spec.Name), text); err != nil {
		return fmt.Errorf("unit %s: %w", r.Spec.Name, err)
	}
	return nil
}

// forgetUnit removes all that is kept of a unit, what names it last.
func forgetUnit(dir, name string) error {
	log := logFile(dir, name)
	for _, path := range []string{oldLog(log), log, traceFile(dir, name), unitFile(dir, name)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("unit %s: %w", name, err)
		}
	}
	return nil
}

func readTrace(dir, name string) (t trace) {
	text, err := os.ReadFile(traceFile(dir, name))
	if err != nil || json.Unmarshal(text, &t) != nil {
		return trace{}
	}
	return t
}

// writeTrace keeps which process a unit is, for as long as the machine is up.
func writeTrace(dir, name string, t trace) error {
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return writeFile(traceFile(dir, name), text, false)
}

// WriteFile puts a file in the place of another one, whole, for this user alone (0600), and durable
// with its name when it returns. Whoever is killed meanwhile leaves the other one, and perhaps a file
// .new-N beside it.
func WriteFile(path string, text []byte) error { return writeFile(path, text, true) }

// WriteJSON writes JSON as WriteFile does.
func WriteJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return WriteFile(path, append(text, '\n'))
}

// ParseJSON reads into v what is to be of that version, which stands beside its other keys. The
// error wraps navvy.ErrCorrupt.
func ParseJSON(text []byte, version int, v any) error {
	var of struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%w: %w", err, navvy.ErrCorrupt)
	}
	if err := json.Unmarshal(text, &of); err != nil || of.Version != version {
		return fmt.Errorf("version %d, and this navvy knows %d: %w", of.Version, version, navvy.ErrCorrupt)
	}
	return nil
}

// writeFile is WriteFile, durable or not.
func writeFile(path string, text []byte, durable bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil && durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if !durable {
		return nil
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
