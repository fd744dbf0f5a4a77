// Package parcel makes one file of a directory, and directories of such files: what a
// service is deployed as. The file is a tar archive, compressed by gzip, in which names,
// contents, links and whether a file can be executed are kept, and nothing else; of what
// is alike it is alike.
//
// Archives that others have made are read, too: tar, tar with gzip, and zip. They are not
// trusted. What a name or a link leads to is inside of the directory, there are files,
// directories and links alone, and their number and size are bounded.
package parcel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/navvy-run/navvy"
)

// Options bound archives, and say how they are unpacked. The zero value is the default.
type Options struct {
	// MaxEntries is how many files, directories and links there may be. Defaults to 100,000.
	MaxEntries int
	// MaxBytes is how much all files may hold. Defaults to 10 GiB.
	MaxBytes int64
	// Writable makes what is unpacked the caller's to change. Defaults to files and
	// directories that everybody may read, and nobody write to.
	Writable bool
}

const (
	defaultEntries = 100_000
	defaultBytes   = 10 << 30
	maxName        = 1024 // bytes of a path in an archive, and of what a link leads to
)

// Contents is what an archive holds.
type Contents struct {
	Entries int   // files, directories and links
	Bytes   int64 // of all files
}

func (o *Options) withDefaults() Options {
	c := Options{}
	if o != nil {
		c = *o
	}
	if c.MaxEntries <= 0 {
		c.MaxEntries = defaultEntries
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = defaultBytes
	}
	return c
}

// bad says what an archive must not hold.
func bad(name, format string, a ...any) error {
	return fmt.Errorf("%.200q: %s: %w", name, fmt.Sprintf(format, a...), navvy.ErrInvalid)
}

// errEmpty says that there is nothing in it, which nobody means.
var errEmpty = fmt.Errorf("there is nothing in it: %w", navvy.ErrInvalid)

// checkName refuses names that lead out of a directory, or that nobody could type.
func checkName(name string) error {
	switch {
	case strings.HasPrefix(name, "/"):
		return bad(name, "its name is absolute")
	case len(name) > maxName:
		return bad(name, "its name has more than %d bytes", maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return bad(name, "its name is no UTF-8, or has control characters")
	case !fs.ValidPath(name):
		return bad(name, "its name leads out of the archive, or is no path")
	}
	return nil
}

// checkLink refuses links that lead out of the directory. After its first parts, a path
// has no .. in it: that would be taken from wherever another link has led to.
func checkLink(name, target string) error {
	if target == "" || len(target) > maxName || strings.HasPrefix(target, "/") || !utf8.ValidString(target) || strings.ContainsFunc(target, unicode.IsControl) {
		return bad(name, "the link to %.200q leads out of the archive, or nowhere", target)
	}
	down := false
	for part := range strings.SplitSeq(strings.TrimSuffix(target, "/"), "/") {
		if part == ".." && down {
			return bad(name, "the link to %.200q has .. behind other parts, and could lead out of the archive", target)
		}
		down = down || part != ".." && part != "."
	}
	if at := path.Join(path.Dir(name), target); at == ".." || strings.HasPrefix(at, "../") {
		return bad(name, "the link to %.200q leads out of the archive", target)
	}
	return nil
}

// checkThere refuses a link that leads to nothing in the directory, or, with others, round
// in circles. Where it leads is known to be inside, see checkLink.
func checkThere(root *os.Root, name, target string) error {
	_, err := root.Stat(name)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENOTDIR):
		return bad(name, "the link to %.200q leads to nothing that is in the archive", target)
	}
	return err
}

// Remove removes a directory that was unpacked, also one that nobody may write to. That
// there is none is no error. Nobody else may be writing there.
func Remove(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o700) //nolint:gosec // a directory
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(dir))
}
