package share

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"gocloud.dev/blob"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share/dirbucket"
	"github.com/navvy-run/navvy/share/place"
)

// File is what a share knows of a file.
type File = place.File

// PutOptions are how a file is put. The zero value is the default.
type PutOptions = place.PutOptions

// errChanged says that a file has changed between the two times when it was read.
var errChanged = fmt.Errorf("it has changed while it was read: %w", navvy.ErrConflict)

// Put reads r to its end and makes what it holds the file of that key, whole or not at all:
// when r or the store fails, the context ends or the process is killed, what was there
// before is there still. In a directory, and in the engine, the file is durable when Put returns.
//
// A store elsewhere wants the checksum before the bytes. If the options do not say it, an
// io.ReadSeeker is read twice, from where it stands; all else goes through a temporary file.
func (s *Share) Put(ctx context.Context, key string, r io.Reader, o *PutOptions) (File, error) {
	if o == nil {
		o = &PutOptions{}
	}
	if err := place.CheckKey(key); err != nil {
		return File{}, s.wrap("put", key, err)
	}
	want := o.SHA256
	if !s.sums && want == "" {
		body, err := s.twice(ctx, r)
		if err != nil {
			return File{}, s.wrap("put", key, err)
		}
		defer body.close()
		r, want = body.Reader, body.sum
	}
	f, err := s.write(ctx, key, r, want, o)
	if errors.Is(err, errSum) && o.SHA256 == "" {
		err = errChanged
	}
	if err = s.explain(ctx, err); err != nil {
		return File{}, s.wrap("put", key, err)
	}
	return f, nil
}

// errSum says that a file does not hold what it should.
var errSum = fmt.Errorf("its checksum is another: %w", navvy.ErrCorrupt)

func wrongSum(want, got string) error {
	return &briefError{"its checksum is " + got + ", and not " + want, errSum}
}

// write puts a file whose checksum is sum, if that is not empty.
func (s *Share) write(ctx context.Context, key string, r io.Reader, sum string, o *PutOptions) (File, error) {
	var own interface{ SHA256() string }
	in := &incoming{ctx: ctx, r: r, progress: o.Progress, sum: sum}
	wo := &blob.WriterOptions{
		ContentType: "application/octet-stream", IfNotExist: o.IfAbsent,
		BeforeWrite: func(as func(any) bool) error { as(&own); return nil },
	}
	var err error
	if s.sums {
		in.hash = func() string { return own.SHA256() }
	} else {
		digest := sha256.New()
		in.digest, in.hash = digest, func() string { return hex.EncodeToString(digest.Sum(nil)) }
		wo.Metadata = map[string]string{dirbucket.MetadataSHA256: sum}
	}
	if s.transport != nil {
		// The writers of stores elsewhere don't bear errors well; readers' they do.
		err = s.upload(ctx, key, in, wo)
	} else {
		err = s.stream(ctx, key, in, wo)
	}
	if in.err != nil {
		err = in.err // the first one
	}
	if err != nil {
		return File{}, err
	}
	return File{Key: key, Size: in.n, Modified: time.Now(), SHA256: in.hash()}, nil
}

// graceTime bounds how long an upload whose context has ended takes to be given up.
const graceTime = 10 * time.Second

// upload hands what comes in to a store elsewhere. When ctx ends it is the reader that
// fails: the store's library then takes away what it has sent, for which it needs a context
// that lives, and a file that is all there is not told as an error. The inner context ends
// graceTime later.
func (s *Share) upload(ctx context.Context, key string, in *incoming, o *blob.WriterOptions) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(graceTime)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-inner.Done():
		}
	})
	defer stop()
	err := s.bucket.Upload(inner, key, in, o)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// stream writes what comes in, and gives it up after an error.
func (s *Share) stream(ctx context.Context, key string, in *incoming, o *blob.WriterOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := s.bucket.NewWriter(ctx, key, o)
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(onlyWriter{w}, in, make([]byte, bufferSize)); err != nil {
		cancel() // before the end: what was written is given up
		_ = w.Close()
		return err
	}
	return w.Close()
}

// onlyWriter keeps io.Copy from what else a writer can do.
type onlyWriter struct{ io.Writer }

// incoming reads what is to be put, and fails instead of ending if that is not what was
// announced: then a store does not keep it.
type incoming struct {
	ctx      context.Context //nolint:containedctx // that of Put, while it lasts
	r        io.Reader
	digest   hash.Hash // of what was read; nil if somebody else makes it
	hash     func() string
	sum      string // wanted; empty if any will do
	progress func(int64)
	n        int64
	err      error // that has ended it
}

// Read reads on.
func (in *incoming) Read(p []byte) (int, error) {
	if in.err != nil {
		return 0, in.err
	}
	if in.ctx.Err() != nil {
		in.err = context.Cause(in.ctx)
		return 0, in.err
	}
	n, err := in.r.Read(p)
	if in.digest != nil {
		in.digest.Write(p[:n])
	}
	in.n += int64(n)
	if in.progress != nil && n > 0 {
		in.progress(int64(n))
	}
	switch {
	case err == nil:
		return n, nil
	case err != io.EOF:
		in.err = &readError{err}
	case n > 0:
		return n, nil // it will end again, when what it has read is counted
	case in.sum != "" && in.hash() != in.sum:
		in.err = wrongSum(in.sum, in.hash())
	default:
		return 0, io.EOF
	}
	return n, in.err
}

// readError is an error of what was to be put, and not of the share.
type readError struct{ err error }

func (e *readError) Error() string { return "read what is to be put: " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

const bufferSize = 256 << 10

// copyAll copies until r ends, and adds what it copies to the digest unless somebody else
// does that.
func copyAll(ctx context.Context, w io.Writer, r io.Reader, digest hash.Hash, hashed bool, progress func(int64)) (int64, error) {
	buf := make([]byte, bufferSize)
	var done int64
	for {
		if err := ctx.Err(); err != nil {
			return done, context.Cause(ctx)
		}
		n, readErr := r.Read(buf)
		if n > 0 {
			if !hashed {
				digest.Write(buf[:n])
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return done, err
			}
			done += int64(n)
			if progress != nil {
				progress(int64(n))
			}
		}
		if readErr == io.EOF {
			return done, nil
		} else if readErr != nil {
			return done, &readError{readErr}
		}
	}
}

// body is something that can be read, and whose checksum is known.
type body struct {
	io.Reader
	sum  string
	file *os.File // temporary; nil if there is none
}

func (b *body) close() {
	if b.file != nil {
		_ = b.file.Close() // it has no name any more
	}
}

// maxInMemory bounds what is kept in memory to be read again.
const maxInMemory = 8 << 20

// twice reads r to learn its checksum, and gives it to be read again.
func (s *Share) twice(ctx context.Context, r io.Reader) (*body, error) {
	digest := sha256.New()
	if seeker, ok := r.(io.ReadSeeker); ok {
		// What says that it can, and cannot, is a pipe in a file's clothes.
		if start, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			if _, err := copyAll(ctx, io.Discard, r, digest, false, nil); err != nil {
				return nil, err
			}
			if _, err := seeker.Seek(start, io.SeekStart); err != nil {
				return nil, &readError{err}
			}
			return &body{Reader: r, sum: hex.EncodeToString(digest.Sum(nil))}, nil
		}
	}
	var head bytes.Buffer
	n, err := copyAll(ctx, &head, io.LimitReader(r, maxInMemory), digest, false, nil)
	if err != nil {
		return nil, err
	}
	if n < maxInMemory {
		return &body{Reader: &head, sum: hex.EncodeToString(digest.Sum(nil))}, nil
	}
	f, err := os.CreateTemp(s.temp, "navvy-share-")
	if err != nil {
		return nil, err
	}
	b := &body{Reader: f, file: f}
	if err = os.Remove(f.Name()); err == nil { //nolint:gosec // what was made two lines above
		_, err = head.WriteTo(f)
	}
	if err == nil {
		_, err = copyAll(ctx, f, r, digest, false, nil)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	b.sum = hex.EncodeToString(digest.Sum(nil))
	return b, nil
}

// explain says it if what was not found is not the file but the place of all of them.
func (s *Share) explain(ctx context.Context, err error) error {
	if s.whole == nil || err == nil || kind(err) != navvy.ErrNotFound { //nolint:errorlint // kind gives the bare sentinel
		return err
	}
	if there, askErr := s.bucket.IsAccessible(ctx); askErr == nil && !there {
		return s.whole
	}
	return err
}
