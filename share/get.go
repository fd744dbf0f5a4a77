package share

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
	"path/filepath"

	"gocloud.dev/blob"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share/dirbucket"
	"github.com/navvy-run/navvy/share/place"
)

// Stat tells of a file, with its checksum if there is one.
func (s *Share) Stat(ctx context.Context, key string) (File, error) {
	err := place.CheckKey(key)
	var a *blob.Attributes
	if err == nil {
		a, err = s.bucket.Attributes(ctx, key)
	}
	if err = s.explain(ctx, err); err != nil {
		return File{}, s.wrap("look at", key, err)
	}
	return file(key, a), nil
}

func file(key string, a *blob.Attributes) File {
	return File{Key: key, Size: a.Size, Modified: a.ModTime, SHA256: a.Metadata[dirbucket.MetadataSHA256]}
}

// List goes through the files whose keys begin with prefix, in the order of the store: that
// of the keys, but that Azure sorts a key with one of " # % ? \ as if __0x were in its
// place. Checksums are not asked for. An error is the last that comes.
func (s *Share) List(ctx context.Context, prefix string) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		list := s.bucket.List(&blob.ListOptions{Prefix: prefix})
		for {
			o, err := list.Next(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if err = s.explain(ctx, err); err != nil {
				yield(File{}, s.wrap("list", prefix, err))
				return
			}
			if !yield(File{Key: o.Key, Size: o.Size, Modified: o.ModTime}, nil) {
				return
			}
		}
	}
}

// Remove removes a file. That it was not there is an error.
func (s *Share) Remove(ctx context.Context, key string) error {
	err := place.CheckKey(key)
	if err == nil {
		err = s.bucket.Delete(ctx, key)
	}
	return s.wrap("remove", key, s.explain(ctx, err))
}

// Duplicate gives what a file holds a second name, in the place of another file, without
// reading it here, unless it is more than the store copies at once. In a directory both
// share their bytes.
func (s *Share) Duplicate(ctx context.Context, from, to string) error {
	err := errors.Join(place.CheckKey(from), place.CheckKey(to))
	if err == nil && from != to {
		err = s.duplicate(ctx, from, to)
	}
	return s.wrap("duplicate", from, s.explain(ctx, err))
}

func (s *Share) duplicate(ctx context.Context, from, to string) error {
	err := s.bucket.Copy(ctx, to, from, nil)
	if err == nil || s.maxCopy == 0 || ctx.Err() != nil {
		return err
	}
	if a, askErr := s.bucket.Attributes(ctx, from); askErr != nil || a.Size <= s.maxCopy {
		return err
	}
	r, err := s.open(ctx, from)
	if err != nil {
		return err
	}
	_, err = s.Put(ctx, to, r, &PutOptions{SHA256: r.File.SHA256})
	return errors.Join(err, r.Close())
}

// Move gives a file another name, in the place of one that is there. Where that is not one
// step, the file has both names if it fails in the midst: it can be done again. What is more
// than the store copies at once is read and written here.
func (s *Share) Move(ctx context.Context, from, to string) error {
	err := errors.Join(place.CheckKey(from), place.CheckKey(to))
	switch {
	case err != nil || from == to:
	case s.move != nil:
		err = s.move(ctx, from, to)
	default:
		if err = s.duplicate(ctx, from, to); err == nil {
			err = s.bucket.Delete(ctx, from)
		}
	}
	return s.wrap("move", from, s.explain(ctx, err))
}

// Reader reads a file. Where others end with io.EOF it ends with an error that wraps
// navvy.ErrCorrupt if what came is not what was put: what was read is then worth nothing.
type Reader struct {
	File  File
	share *Share
	ctx   context.Context //nolint:containedctx // that of Open, for the last question
	etag  string
	r     *blob.Reader
	hash  hash.Hash
	n     int64
	end   error // once it has ended
}

// tries bounds how often a file is opened again that changes at that very moment.
const tries = 5

// Open begins to read a file, until ctx ends. The caller closes the reader.
func (s *Share) Open(ctx context.Context, key string) (*Reader, error) {
	r, err := s.open(ctx, key)
	if err = s.explain(ctx, err); err != nil {
		return nil, s.wrap("read", key, err)
	}
	return r, nil
}

func (s *Share) open(ctx context.Context, key string) (*Reader, error) {
	if err := place.CheckKey(key); err != nil {
		return nil, err
	}
	for range tries {
		a, err := s.bucket.Attributes(ctx, key)
		if err != nil {
			return nil, err
		}
		r, err := s.bucket.NewReader(ctx, key, nil)
		if err != nil {
			return nil, err
		}
		if r.Size() == a.Size && r.ModTime().Equal(a.ModTime) {
			return &Reader{File: file(key, a), share: s, ctx: ctx, etag: a.ETag, r: r, hash: sha256.New()}, nil
		}
		if err := r.Close(); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("somebody else changes it all the time: %w", navvy.ErrConflict)
}

// Read reads on.
func (r *Reader) Read(p []byte) (int, error) {
	if r.end != nil {
		return 0, r.end
	}
	n, err := r.r.Read(p)
	r.hash.Write(p[:n])
	r.n += int64(n)
	if errors.Is(err, io.EOF) {
		err = r.judge()
	}
	if err != nil && err != io.EOF { //nolint:errorlint // judge gives the bare value
		err = r.share.wrap("read", r.File.Key, err)
	}
	r.end = err
	return n, err
}

// judge tells whether what was read is what was put.
func (r *Reader) judge() error {
	got := hex.EncodeToString(r.hash.Sum(nil))
	var err error
	switch {
	case r.n != r.File.Size:
		err = fmt.Errorf("it ends after %d of %d bytes: %w", r.n, r.File.Size, navvy.ErrCorrupt)
	case r.File.SHA256 != "" && got != r.File.SHA256:
		err = wrongSum(r.File.SHA256, got)
	default:
		return io.EOF
	}
	if a, askErr := r.share.bucket.Attributes(r.ctx, r.File.Key); askErr == nil && a.ETag != r.etag {
		return errChanged
	}
	return err
}

// SHA256 is the checksum of what was read so far, in hexadecimal digits.
func (r *Reader) SHA256() string { return hex.EncodeToString(r.hash.Sum(nil)) }

// Close ends the reading.
func (r *Reader) Close() error { return r.r.Close() }

// Copy writes a file to w, and returns the file with the checksum of what was written.
// After an error w has been written to in part. progress is told of bytes, unless it is nil.
func (s *Share) Copy(ctx context.Context, key string, w io.Writer, progress func(n int64)) (File, error) {
	r, err := s.Open(ctx, key)
	if err != nil {
		return File{}, err
	}
	_, err = copyAll(ctx, w, r, nil, true, progress)
	if failed, ok := errors.AsType[*readError](err); ok {
		err = failed.err // which names the share
	}
	f := r.File
	f.SHA256 = r.SHA256()
	return f, errors.Join(err, r.Close())
}

// CopyRange writes length bytes of a file to w, from offset on, or as many as there are;
// all if length is below zero. They are not held against the checksum, which is that of all.
func (s *Share) CopyRange(ctx context.Context, key string, w io.Writer, offset, length int64) (File, error) {
	f, err := s.copyRange(ctx, key, w, offset, length)
	if err = s.explain(ctx, err); err != nil {
		return f, s.wrap("read", key, err)
	}
	return f, nil
}

func (s *Share) copyRange(ctx context.Context, key string, w io.Writer, offset, length int64) (f File, err error) {
	if err := place.CheckKey(key); err != nil {
		return f, err
	}
	a, err := s.bucket.Attributes(ctx, key)
	if err != nil {
		return f, err
	}
	if f = file(key, a); offset < 0 || offset > f.Size {
		return f, invalid("it has %d bytes, and none from %d on", f.Size, offset)
	}
	if left := f.Size - offset; length < 0 || length > left {
		length = left
	}
	if length == 0 {
		return f, nil
	}
	r, err := s.bucket.NewRangeReader(ctx, key, offset, length, nil)
	if err != nil {
		return f, err
	}
	defer r.Close()
	if r.Size() != f.Size || !r.ModTime().Equal(f.Modified) {
		return f, errChanged
	}
	n, err := copyAll(ctx, w, r, nil, true, nil)
	if failed, ok := errors.AsType[*readError](err); ok {
		err = failed.err
	}
	if err == nil && n != length {
		err = fmt.Errorf("%d of %d bytes come: %w", n, length, navvy.ErrCorrupt)
	}
	return f, err
}

// Fetch writes a file to a path of this machine, whole and durable or not at all: what is
// there is replaced when all has come. The folder must exist.
func (s *Share) Fetch(ctx context.Context, key, path string, progress func(n int64)) (f File, err error) {
	tmp, err := createBeside(path)
	if err != nil {
		return File{}, local("write", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	f, err = s.Copy(ctx, key, &localWriter{tmp, path}, progress)
	if err == nil {
		err = local("write", path, tmp.Sync())
	}
	if err := errors.Join(err, local("write", path, tmp.Close())); err != nil {
		return File{}, err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return File{}, local("write", path, err)
	}
	return f, local("write", path, syncDir(filepath.Dir(path)))
}
