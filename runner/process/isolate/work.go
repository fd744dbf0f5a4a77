package isolate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/navvy-run/navvy"
)

// WorkDirs are the private working directories of attempts, below one directory
// that belongs to navvy alone. Each has the name of its attempt's token, so that
// it is found after a crash. All methods may be called at once, for different tokens.
type WorkDirs struct{ dir string }

// OpenWorkDirs uses a directory, which it makes if need be, closed to others.
func OpenWorkDirs(dir string) (*WorkDirs, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("isolate: working directories: %w", err)
	}
	return &WorkDirs{dir: dir}, nil
}

// Make makes the directory of an attempt, which is empty and belongs to the user
// uid and the group of the same number, or to the caller if uid is 0.
func (w *WorkDirs) Make(token string, uid int) (path string, err error) {
	if path, err = w.path(token); err != nil {
		return "", err
	}
	err = os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) { // of an earlier life of the same attempt
		if err = w.Remove(token); err == nil {
			err = os.Mkdir(path, 0o700)
		}
	}
	if err == nil && uid != 0 {
		err = os.Lchown(path, uid, uid)
	}
	if err != nil {
		return "", fmt.Errorf("isolate: working directory: %w", err)
	}
	return path, nil
}

// Remove removes the directory of an attempt with all that is in it, when
// nothing of the attempt runs any more. One that is not there is no error.
func (w *WorkDirs) Remove(token string) error {
	path, err := w.path(token)
	if err != nil {
		return err
	}
	if err := removeTree(path); err != nil {
		return fmt.Errorf("isolate: remove working directory: %w", err)
	}
	return nil
}

// List lists the tokens of the attempts that have directories.
func (w *WorkDirs) List() ([]string, error) {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return nil, fmt.Errorf("isolate: working directories: %w", err)
	}
	var tokens []string
	for _, e := range entries {
		if e.IsDir() && validToken(e.Name()) {
			tokens = append(tokens, e.Name())
		}
	}
	return tokens, nil
}

func (w *WorkDirs) path(token string) (string, error) {
	if !validToken(token) {
		return "", fmt.Errorf("isolate: %q names no attempt: %w", token, navvy.ErrInvalid)
	}
	return filepath.Join(w.dir, token), nil
}

// validToken tells whether a token can be the name of a directory.
func validToken(token string) bool {
	if token == "" || len(token) > 255 || token[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(token, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != ':'
	})
}
