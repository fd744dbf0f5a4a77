package pebble

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	lsm "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"

	"github.com/navvy-run/navvy"
)

// version of the directory's layout, in the file VERSION.
const version = 1

// checkVersion makes sure that the directory is one of ours and not newer. In a
// new directory it writes VERSION, before anything else is there.
func checkVersion(fs vfs.FS, dir string) error {
	path := fs.PathJoin(dir, "VERSION")
	text, err := readFile(fs, path)
	if errors.Is(err, os.ErrNotExist) {
		err = writeVersion(fs, dir, path)
		text = []byte(strconv.Itoa(version))
	}
	if err != nil {
		return err
	}
	found, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s is not a version: %w", path, navvy.ErrCorrupt)
	}
	if found > version {
		return tooNew("version", found, version)
	}
	return checkFormat(fs, dir)
}

// checkFormat does the same for the storage engine's own version. In a new
// directory it sets it: left to itself the engine would begin with its oldest
// format, write its first log in that, and sync at each step to ours.
func checkFormat(fs vfs.FS, dir string) error {
	marker, text, err := atomicfs.LocateMarker(fs, dir, "format-version")
	if err != nil {
		return err
	}
	if found, atoiErr := strconv.Atoi(text); atoiErr == nil && found > int(lsm.FormatNewest) {
		err = tooNew("storage format", found, int(lsm.FormatNewest))
	} else if text == "" {
		err = marker.Move(format.String())
	}
	return errors.Join(err, marker.Close())
}

func tooNew(what string, found, known int) error {
	return fmt.Errorf("%s %d, this navvy knows up to %d: use the navvy that wrote it, or a newer one: %w",
		what, found, known, navvy.ErrCorrupt)
}

func writeVersion(fs vfs.FS, dir, path string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "MANIFEST-") {
			return fmt.Errorf("there is another program's data: choose an empty directory: %w", navvy.ErrInvalid)
		}
	}
	temporary := path + ".tmp"
	if err := writeFile(fs, temporary, strconv.Itoa(version)+"\n"); err != nil {
		return err
	}
	if err := fs.Rename(temporary, path); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

// makeDir makes the directory, durably, if it is not there. Its parent must be.
func makeDir(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	parent := fs.PathDir(dir)
	if _, err := fs.Stat(parent); err != nil {
		return fmt.Errorf("its parent directory must exist: create it first: %w", err)
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fs, parent)
}

func readFile(fs vfs.FS, path string) ([]byte, error) {
	file, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(file)
	return text, errors.Join(err, file.Close())
}

func writeFile(fs vfs.FS, path, text string) error {
	file, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = file.Write([]byte(text))
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
