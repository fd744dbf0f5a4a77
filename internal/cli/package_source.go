package cli

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/parcel"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/place"
)

// packedFile is an archive of this machine.
type packedFile struct {
	path     string
	sum      string // its SHA-256 in hexadecimal digits
	size     int64
	contents parcel.Contents
}

// pack packs a directory, an archive, or what is at a place in a share, in dir.
func (a *app) pack(ctx context.Context, source, dir string) (*packedFile, error) {
	tree := filepath.Join(dir, "tree")
	if place.Is(source) {
		p, err := parsePlace(source)
		if err != nil {
			return nil, err
		}
		err = a.withShare(ctx, p, false, func(s *share.Share) error { return deployPlace(ctx, s, p, tree) })
		if err != nil {
			return nil, err
		}
		source = tree
	} else if info, err := os.Stat(source); err != nil {
		return nil, usagef("%w", err)
	} else if !info.IsDir() {
		if err := unpackFile(ctx, source, tree, nil); err != nil {
			return nil, err
		}
		source = tree
	}
	return packTree(ctx, source, filepath.Join(dir, "packed"))
}

// packTree packs a directory into a new file.
func packTree(ctx context.Context, source, path string) (*packedFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	packed := &packedFile{path: path}
	packed.contents, err = parcel.Pack(ctx, io.MultiWriter(f, sum), source, nil)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	packed.sum = hex.EncodeToString(sum.Sum(nil))
	info, err := os.Stat(path)
	if err == nil {
		packed.size = info.Size()
	}
	return packed, err
}

// packageSourceError says what can be done about what cannot be packed.
func packageSourceError(err error, source string) error {
	switch {
	case errors.Is(err, navvy.ErrInvalid), errors.Is(err, navvy.ErrCorrupt):
		return withHint(fmt.Errorf("package: %w", err), "a package is a directory, or an archive of one: tar, tar.gz, zip; with files, directories, and links that lead to what is in it; see navvy package put --help")
	case errors.Is(err, navvy.ErrNotFound) && place.Is(source):
		return withHint(err, "navvy share ls PLACE lists what there is")
	}
	return err
}

func unpackFile(ctx context.Context, path, dir string, o *parcel.Options) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = parcel.Unpack(ctx, f, dir, o)
	return errors.Join(err, f.Close())
}

// deployArchive makes a directory of an archive in a share, which is checked before.
func deployArchive(ctx context.Context, s *share.Share, key, dir string, o *parcel.Options) error {
	tmp, err := os.MkdirTemp("", "navvy-package-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // of a directory for temporary files
	archive := filepath.Join(tmp, "archive")
	if _, err := s.Fetch(ctx, key, archive, nil); err != nil {
		return err
	}
	if err := unpackFile(ctx, archive, dir, o); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// deployPlace makes a directory of what is at a place: an archive; a package, by its name
// without the end of it; or a folder.
func deployPlace(ctx context.Context, s *share.Share, p place.Place, dir string) error {
	if !p.Folder {
		suffix := filepath.Ext((&navvy.Package{}).File())
		for _, key := range []string{p.Path, p.Path + suffix} {
			_, err := s.Stat(ctx, key)
			if err == nil {
				return deployArchive(ctx, s, key, dir, nil)
			}
			if !errors.Is(err, navvy.ErrNotFound) {
				return err
			}
		}
	}
	return deployFolder(ctx, s, p, dir)
}

// Bounds of a package that is a folder in a share.
const (
	maxFolderFiles = 100_000
	maxFolderBytes = 10 << 30
)

// deployFolder makes a directory of a folder. A share does not keep which files can be
// executed: all of them can.
func deployFolder(ctx context.Context, s *share.Share, p place.Place, dir string) error {
	from, err := s.Folder(p.Path)
	if err != nil {
		return err
	}
	plan, err := share.Sync(ctx, from, share.Dir(dir), &share.SyncOptions{DryRun: true})
	switch {
	case err != nil:
		return err
	case len(plan.Copy) == 0:
		return fmt.Errorf("there is neither a package nor a folder at %s: %w", p, navvy.ErrNotFound)
	case len(plan.Copy) > maxFolderFiles || plan.Bytes > maxFolderBytes:
		return fmt.Errorf("%s has %d files with %d bytes, and a package at most %d with %d: %w", p, len(plan.Copy), plan.Bytes, maxFolderFiles, int64(maxFolderBytes), navvy.ErrInvalid)
	}
	if _, err := share.Sync(ctx, from, share.Dir(dir), nil); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chmod(path, 0o555)) //nolint:gosec // to be executed by whoever it is
	})
}

// sameUnzipped tells whether two files hold the same when they are unzipped.
func sameUnzipped(one, other string) (bool, error) {
	a, err := unzippedSum(one)
	if err != nil {
		return false, err
	}
	b, err := unzippedSum(other)
	return a == b, err
}

// unzippedSum is the checksum of what a file holds when it is unzipped; of one that is not
// zipped, an empty one.
func unzippedSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		return "", nil //nolint:nilerr // somebody else has put it there
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(r, 2*maxFolderBytes)); err != nil {
		return "", nil //nolint:nilerr // likewise
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
