package staging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/place"
)

// In copies all objects whose names begin with the prefix into a directory, which is there.
// Each appears whole or not at all, with the checksum that is noted, and may be changed by
// anybody. It is an error if a prefix fits none.
func In(ctx context.Context, o *Options, dir string) (Count, error) {
	s, err := o.Server.Open(ctx, o.Bucket)
	if err != nil {
		return Count{}, err
	}
	in := &incoming{share: s, o: o, dir: dir, tries: o.tries()}
	err = in.copy(ctx)
	if err = errors.Join(err, s.Close()); err != nil {
		return in.count(), err
	}
	if o.Prefix != "" && !in.any {
		return in.count(), invalid("bucket %s has no object whose name begins with %q", o.Bucket, o.Prefix)
	}
	return in.count(), nil
}

// incoming is one In.
type incoming struct {
	share        *share.Share
	o            *Options
	dir          string
	tries        *tries
	last         string // of what was listed
	any          bool
	files, bytes atomic.Int64
}

func (in *incoming) count() Count { return Count{in.files.Load(), in.bytes.Load()} }

// copy lists the objects and copies them meanwhile. A list that breaks begins again, and
// leaves out what it has told.
func (in *incoming) copy(ctx context.Context) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(cmp.Or(in.o.Parallel, defaultParallel))
	err := in.tries.do(inner, func() error {
		for f, err := range in.share.List(inner, in.o.Prefix) {
			switch {
			case err != nil:
				return err
			case in.any && f.Key <= in.last:
				continue
			}
			in.last, in.any = f.Key, true
			group.Go(func() error { return in.file(inner, f) })
		}
		return nil
	})
	if failed := group.Wait(); failed != nil {
		return failed // and with it the list
	}
	return err
}

// file copies one object.
func (in *incoming) file(ctx context.Context, f share.File) error {
	name := Below(in.o.Prefix, f.Key)
	folder := strings.HasSuffix(f.Key, "/") && f.Size == 0
	if folder { // that some programs make where a directory is meant
		if name = strings.TrimSuffix(name, "/"); name == "" {
			return nil
		}
	}
	if err := place.CheckKey(name); err != nil {
		return fmt.Errorf("object %q of bucket %s cannot be a file: %w", f.Key, in.o.Bucket, err)
	}
	if err := in.makeFolders(name, folder); err != nil || folder {
		return err
	}
	to := filepath.Join(in.dir, filepath.FromSlash(name))
	err := in.tries.do(ctx, func() error {
		_, err := in.share.Fetch(ctx, f.Key, to, nil)
		return err
	})
	if err == nil {
		err = open(to, anybodyFile)
	}
	if err == nil {
		in.files.Add(1)
		in.bytes.Add(f.Size)
	}
	return err
}

// What whoever reads the directory may do is not known here: it is a pod's own.
const (
	anybodyFile fs.FileMode = 0o666
	anybodyDir  fs.FileMode = 0o777
)

// open lets anybody read and change something.
func open(name string, mode fs.FileMode) error {
	if err := os.Chmod(name, mode); err != nil {
		return &share.Local{Verb: "open", Path: name, Err: err}
	}
	return nil
}

// makeFolders makes the folders above a file, or the folder itself.
func (in *incoming) makeFolders(name string, itself bool) error {
	if !itself {
		name = path.Dir(name)
	}
	if name == "." {
		return nil
	}
	if err := in.makeFolders(name, false); err != nil {
		return err
	}
	dir := filepath.Join(in.dir, filepath.FromSlash(name))
	err := os.Mkdir(dir, anybodyDir)
	if errors.Is(err, fs.ErrExist) {
		info, statErr := os.Lstat(dir)
		if statErr == nil && !info.IsDir() {
			return invalid("bucket %s has an object %s, and others below it: no directory can hold both", in.o.Bucket, name)
		}
		return nil
	}
	if err != nil {
		return &share.Local{Verb: "make", Path: dir, Err: err}
	}
	return open(dir, anybodyDir)
}
