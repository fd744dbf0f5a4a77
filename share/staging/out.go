package staging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/place"
)

// Out puts all files of a directory into the bucket, which is made if it is not there. Each
// appears whole or not at all, with its checksum. What is no regular file, or has a name
// that no object can have, is an error before anything is put.
func Out(ctx context.Context, o *Options, dir string) (Count, error) {
	s, err := o.Server.Open(ctx, o.Bucket)
	if err != nil {
		return Count{}, err
	}
	out := &outgoing{share: s, o: o, dir: dir, tries: o.tries()}
	err = out.copy(ctx)
	return Count{out.files.Load(), out.bytes.Load()}, errors.Join(err, s.Close())
}

// outgoing is one Out.
type outgoing struct {
	share        *share.Share
	o            *Options
	dir          string
	tries        *tries
	files, bytes atomic.Int64
}

func (out *outgoing) copy(ctx context.Context) error {
	if err := out.walk(ctx, func(string) error { return nil }); err != nil {
		return err
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(cmp.Or(out.o.Parallel, defaultParallel))
	err := out.walk(inner, func(name string) error {
		group.Go(func() error { return out.file(inner, name) })
		return nil
	})
	if failed := group.Wait(); failed != nil {
		return failed
	}
	return err
}

// walk calls f with the name of each file, in its directory, after it has checked it.
func (out *outgoing) walk(ctx context.Context, f func(name string) error) error {
	return filepath.WalkDir(out.dir, func(at string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return &share.Local{Verb: "read", Path: at, Err: err}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			return &share.NotRegular{Path: at}
		}
		name, err := filepath.Rel(out.dir, at)
		if err != nil {
			return err
		}
		if err := out.check(filepath.ToSlash(name), d); err != nil {
			return err
		}
		return f(filepath.ToSlash(name))
	})
}

// maxFile is what share puts into S3 as one object: 10,000 parts of the usual size.
const maxFile = 10_000 * 8 << 20

// check refuses what cannot be an object.
func (out *outgoing) check(name string, d fs.DirEntry) error {
	if err := place.CheckKey(Target(out.o.Prefix, name)); err != nil {
		return fmt.Errorf("file %q cannot be an object: %w", name, err)
	}
	info, err := d.Info()
	if err != nil {
		return &share.Local{Verb: "look at", Path: name, Err: err}
	}
	if info.Size() > maxFile {
		return invalid("file %q has %d bytes, more than the %d of an object: let the program divide it", name, info.Size(), int64(maxFile))
	}
	return nil
}

// file puts one file.
func (out *outgoing) file(ctx context.Context, name string) error {
	at := filepath.Join(out.dir, filepath.FromSlash(name))
	f, err := os.Open(at)
	if err != nil {
		return &share.Local{Verb: "read", Path: at, Err: err}
	}
	defer f.Close()
	put, err := putAgain(ctx, out.tries, out.share, Target(out.o.Prefix, name), f)
	if err != nil {
		return err
	}
	out.files.Add(1)
	out.bytes.Add(put.Size)
	return nil
}

// putAgain puts a file until that goes well.
func putAgain(ctx context.Context, t *tries, s *share.Share, key string, r io.ReadSeeker) (file share.File, err error) {
	err = t.do(ctx, func() error {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return &share.Local{Verb: "read", Path: key, Err: err}
		}
		file, err = s.Put(ctx, key, r, nil)
		if errors.Is(err, navvy.ErrNotFound) { // which only the bucket can be
			return remade(ctx, s)
		}
		return err
	})
	return file, err
}

// errMade says that there is a bucket now, and why it is to be tried again.
var errMade = fmt.Errorf("the bucket was made: %w", navvy.ErrUnavailable)

// remade makes the bucket of a share, unless somebody else has made it since. Nobody asks for
// it before it is missed: who may only write need not be allowed to look.
func remade(ctx context.Context, s *share.Share) error {
	if err := s.Make(ctx); err != nil {
		return err
	}
	return errMade
}

// Put makes what r holds an object of a bucket, which is made if it is not there.
func Put(ctx context.Context, o *Options, key string, r io.ReadSeeker) error {
	s, err := o.Server.Open(ctx, o.Bucket)
	if err != nil {
		return err
	}
	_, err = putAgain(ctx, o.tries(), s, key, r)
	return errors.Join(err, s.Close())
}
