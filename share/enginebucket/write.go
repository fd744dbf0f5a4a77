package enginebucket

import (
	"context"
	"errors"
	"io"
	"math"

	"gocloud.dev/blob/driver"

	"github.com/navvy-run/navvy/engine"
)

// writer writes a file, which appears when it is closed, and not at all if the context has
// ended before. WriterOptions.BeforeWrite can ask for it as what makes the checksum, with a
// pointer to an interface that has the method SHA256.
type writer struct {
	*engine.FileWriter
	ctx context.Context //nolint:containedctx // the driver's contract: a writer is closed without one
}

// NewTypedWriter begins a file.
func (b *bucket) NewTypedWriter(ctx context.Context, key, contentType string, o *driver.WriterOptions) (driver.Writer, error) {
	note, err := newNote(contentType, o)
	if err != nil {
		return nil, err
	}
	w, err := b.files.Create(ctx, key, engine.FileOptions{IfAbsent: o.IfNotExist, Note: note})
	if err != nil {
		return nil, err
	}
	if o.BeforeWrite != nil {
		err = o.BeforeWrite(func(to any) bool {
			p, ok := to.(*interface{ SHA256() string })
			if ok {
				*p = w
			}
			return ok
		})
	}
	if err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	return &writer{w, ctx}, nil
}

// Close makes the file durable and visible, or gives it up. It tells the context's error
// bare, as the portable writer wants it.
func (w *writer) Close() error {
	if err := w.ctx.Err(); err != nil {
		_ = w.Abort() // what is left of it the next start drops
		return err
	}
	_, err := w.Commit(w.ctx)
	return err
}

// Copy reads a file and writes it under another name: no two files share what they hold.
func (b *bucket) Copy(ctx context.Context, to, from string, o *driver.CopyOptions) error {
	if o.BeforeCopy != nil {
		if err := o.BeforeCopy(b.As); err != nil {
			return err
		}
	}
	r, err := b.files.Open(ctx, from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := b.files.Create(ctx, to, engine.FileOptions{Note: r.File.Note})
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(onlyWriter{w}, io.NewSectionReader(r, 0, math.MaxInt64), make([]byte, bufferSize)); err != nil {
		return errors.Join(err, w.Abort())
	}
	_, err = w.Commit(ctx)
	return err
}

const bufferSize = 256 << 10

// onlyWriter keeps io.Copy from what else a writer can do.
type onlyWriter struct{ io.Writer }
