package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/server"
)

// sharedDir is where this host has the share of a server: the server's own directory, or
// one where the bucket or directory of its --share is mounted.
type sharedDir string

// openSharedDir checks a directory. Tasks are shown what is their owner's in it, and
// nothing else: unless there is one owner alone, nobody but us may get to it otherwise.
func openSharedDir(dir, singleOwner string) (sharedDir, error) {
	if dir == "" {
		return "", nil
	}
	real, err := filepath.Abs(dir)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err != nil {
		return "", usagef("--share-dir: %w", err)
	}
	if info, err := os.Stat(real); err != nil || !info.IsDir() {
		return "", usagef("--share-dir %s: this is no directory", dir)
	}
	switch {
	case singleOwner != "":
		return sharedDir(real), nil
	case os.Geteuid() != 0:
		return "", withHint(usagef("--share-dir: a worker that cannot give each owner's tasks a user of their own would show them everybody's files"),
			"start it as root, or give --single-owner NAME")
	}
	for at := real; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return "", usagef("--share-dir: %w", err)
		}
		if info.Mode().Perm()&0o001 == 0 {
			return sharedDir(real), nil
		}
		if at == "/" {
			return "", withHint(usagef("--share-dir %s: all users of this machine can get there, and so could tasks, to everybody's files", dir),
				"close it, or a directory above it, to others: chmod 700; or give --single-owner NAME")
		}
	}
}

// folder gives the directory of a folder of an owner, if this is the share of that id. No
// symbolic link is followed on the way there, and nothing that leads out of the owner's.
func (d sharedDir) folder(id, owner, folder string) (string, error) {
	name := server.OwnerFolder(owner)
	if folder != "" {
		if !fs.ValidPath(folder) {
			return "", fmt.Errorf("%q names no folder: %w", folder, navvy.ErrInvalid)
		}
		name += "/" + folder
	}
	top, err := unix.Open(string(d), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("--share-dir %s: %w", string(d), err)
	}
	defer unix.Close(top) //nolint:errcheck // it was only looked at
	if err := d.check(top, id); err != nil {
		return "", err
	}
	fd, err := unix.Openat2(top, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return "", fmt.Errorf("--share-dir %s: %s: %w", string(d), name, err)
	}
	return filepath.Join(string(d), filepath.FromSlash(name)), unix.Close(fd)
}

// check finds out whether a directory, which is open, is the share of that id. It may have
// been once, or have another one's files, so that nothing else tells it from what is.
func (d sharedDir) check(top int, id string) error {
	if id == "" {
		return fmt.Errorf("--share-dir %s: the server does not say by what its share is known: %w", string(d), navvy.ErrConflict)
	}
	fd, err := unix.Openat2(top, server.ShareIDFile, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return fmt.Errorf("--share-dir %s: this is not the server's share: its file %s: %w: %w", string(d), server.ShareIDFile, err, navvy.ErrConflict)
	}
	f := os.NewFile(uintptr(fd), server.ShareIDFile)
	defer f.Close()
	if text, err := io.ReadAll(io.LimitReader(f, maxShareID)); err != nil || strings.TrimSpace(string(text)) != id {
		return fmt.Errorf("--share-dir %s: this is not the server's share, or a copy of it: its file %s holds something else: %w", string(d), server.ShareIDFile, errors.Join(err, navvy.ErrConflict))
	}
	return nil
}

const maxShareID = 200 // bytes of its file

// finder is what a worker asks; nil if it has no share.
func (d sharedDir) finder() func(id, owner, folder string) (string, error) {
	if d == "" {
		return nil
	}
	return d.folder
}
