package share

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/navvy-run/navvy"
)

// Local is the error of a file of this machine that is in no share.
type Local struct {
	Verb string // what was done to it: list, make, read, remove, write
	Path string
	Err  error // wraps a sentinel of package navvy where one fits
}

// Error says what was done to what.
func (e *Local) Error() string { return e.Verb + " " + printable(e.Path) + ": " + e.Err.Error() }

// Unwrap gives the reason.
func (e *Local) Unwrap() error { return e.Err }

// local says what was done to a file of this machine that is in no share.
func local(verb, path string, err error) error {
	if err == nil {
		return nil
	}
	sentinel, message := kind(err), brief(err)
	if link, ok := errors.AsType[*os.LinkError](err); ok {
		message = link.Err
	}
	if sentinel == nil && errors.Is(err, syscall.ENOTDIR) {
		sentinel = navvy.ErrInvalid
	}
	if sentinel != nil && !errors.Is(message, sentinel) {
		message = fmt.Errorf("%w: %w", message, sentinel)
	}
	return &Local{verb, path, message}
}

// localWriter says in its errors which file could not be written.
type localWriter struct {
	file *os.File
	path string
}

func (w *localWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	return n, local("write", w.path, err)
}

// leftover matches the names that createBeside makes, which a killed process leaves.
var leftover = regexp.MustCompile(`^\.navvy-[0-9a-z]+-[0-9]+-[0-9]+$`)

// createBeside makes a file beside another that it is to replace, hidden, with the mode
// that any program would give it.
func createBeside(path string) (*os.File, error) {
	for try := 0; ; try++ {
		name := filepath.Join(filepath.Dir(path), ".navvy-"+strconv.FormatInt(time.Now().UnixNano(), 36)+"-"+strconv.Itoa(os.Getpid())+"-"+strconv.Itoa(try))
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666) //nolint:gosec // as any file that a command writes: the umask bounds it
		if errors.Is(err, fs.ErrExist) && try < tries {
			continue
		}
		return f, err
	}
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
