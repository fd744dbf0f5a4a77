package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// FileReader reads a file as it was when it was opened, also when another has taken its
// place. ReadAt may be called at once.
type FileReader struct {
	File File
	e    *Engine
	data []byte           // the content, if it is not in the log
	log  driver.LogReader // nil if it is not
}

// Open begins to read a file; ErrNotFound if there is none. The caller closes it.
func (f Files) Open(ctx context.Context, name string) (*FileReader, error) {
	for {
		file, err := f.Stat(ctx, name)
		if err != nil {
			return nil, err
		}
		f.e.contents.hold(file.Content)
		r := &FileReader{File: file, e: f.e}
		if err = r.open(ctx); err == nil && !file.Logged {
			return r, nil
		}
		// A log that was dropped before it was held is that of a file that is there no more.
		now, again := f.Stat(ctx, name)
		if err == nil && again == nil && now.Content == file.Content {
			return r, nil
		}
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
		if again == nil && now.Content == file.Content {
			return nil, err
		}
	}
}

// open finds the content.
func (r *FileReader) open(ctx context.Context) (err error) {
	f := &r.File
	if f.Logged {
		var log driver.LogReader
		if log, err = r.e.store.OpenLog(ctx, contentLog(f.Content)); err == nil {
			r.log = log
		}
	} else {
		var b []byte
		if b, err = r.e.store.Get(ctx, contentKey(tableContent, f.Content)); err == nil {
			r.data, err = decodeContent(f.Content, b)
		}
	}
	switch {
	case errors.Is(err, navvy.ErrNotFound):
		err = fmt.Errorf("file %q: what it holds is missing: %w", f.Name, navvy.ErrCorrupt)
	case err != nil:
		err = fmt.Errorf("file %q: %w", f.Name, err)
	case !f.Logged && int64(len(r.data)) != f.Size:
		err = fmt.Errorf("file %q has %d bytes, and was written with %d: %w", f.Name, len(r.data), f.Size, navvy.ErrCorrupt)
	}
	return err
}

// ReadAt is io.ReaderAt over what the file holds. The checksum is for the caller to judge.
func (r *FileReader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read file %q at %d: %w", r.File.Name, off, navvy.ErrInvalid)
	}
	if off >= r.File.Size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), r.File.Size-off)]
	if r.log == nil {
		n = copy(want, r.data[off:])
	} else {
		n, err = r.log.ReadAt(want, off)
	}
	switch {
	case n == len(p):
		return n, nil
	case n == len(want):
		return n, io.EOF
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("it ends after %d of %d bytes: %w", off+int64(n), r.File.Size, navvy.ErrCorrupt)
	}
	return n, fmt.Errorf("read file %q: %w", r.File.Name, err)
}

// Close ends the reading, once.
func (r *FileReader) Close() error {
	var err error
	if r.log != nil {
		err = r.log.Close()
	}
	if r.e.contents.release(r.File.Content) {
		r.e.dropLog(context.Background(), r.File.Content)
	}
	return err
}
