package output

import (
	"context"
	"errors"
	"io"
)

// Reader returns a reader of the log's frames from byte 0 on, which waits for
// what is still to come and ends with the log, or with the error of ctx. It has
// an offset of its own and costs nothing but that, also while it waits; each
// reader is for one goroutine at a time. Copy makes streams of what it gives.
func (l *Log) Reader(ctx context.Context) io.Reader { return &reader{log: l, ctx: ctx} }

type reader struct {
	log *Log
	ctx context.Context //nolint:containedctx // io.Reader has no other way to it
	off int64
}

var _ io.WriterTo = (*reader)(nil)

// Read is io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.log.Read(r.ctx, p, r.off)
	r.off += int64(n)
	return n, err
}

// WriteTo is io.WriterTo. It holds a buffer only while there is something to copy.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	start := r.off
	for {
		_, err := r.log.Wait(r.ctx, r.off)
		if err == nil {
			err = r.piece(w)
		}
		if errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			continue
		}
		return r.off - start, err
	}
}

// piece copies what there is, as much as fits a buffer.
func (r *reader) piece(w io.Writer) error {
	buf := largeBuffers.Get().(*[HeaderSize + largeBuffer]byte)
	defer largeBuffers.Put(buf)
	n, err := r.Read(buf[:])
	if n > 0 {
		if _, writeErr := w.Write(buf[:n]); writeErr != nil {
			return writeErr
		}
	}
	return err
}

// Copy writes each stream of a sequence of frames to its own writer, in the order
// in which they arrived, until frames ends; both may be the same. A value goes to neither. It returns the
// first error, ErrShort if the last frame is not whole, and navvy.ErrCorrupt
// where there is no frame.
func Copy(stdout, stderr io.Writer, frames io.Reader) error {
	s := &splitter{to: [...]io.Writer{Stdout: stdout, Stderr: stderr}}
	if _, err := io.Copy(s, frames); err != nil {
		return err
	}
	return s.Close()
}

// splitter writes each stream to its own writer.
type splitter struct {
	Decoder
	to [Stderr + 1]io.Writer
}

// Write takes the next bytes of the frames.
func (s *splitter) Write(p []byte) (int, error) {
	err := s.Decode(p, func(stream Stream, part []byte) error {
		if stream == Value {
			return nil
		}
		_, err := s.to[stream].Write(part)
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}
