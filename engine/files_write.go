package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// FileOptions are how a file is written. The zero value is the default.
type FileOptions struct {
	IfAbsent bool   // only if there is none of that name, with ErrExists
	Note     []byte // see File.Note
}

// FileWriter writes a file, which appears with Commit. It is for one goroutine at a time;
// its owner ends it with Commit or Abort.
type FileWriter struct {
	e      *Engine
	ctx    context.Context //nolint:containedctx // as long as it writes
	file   File
	absent bool
	hash   hash.Hash
	head   []byte           // the content, until it is too long
	log    driver.LogWriter // then it is here; nil until then
	asked  int64            // how long it was when free space was asked for
	err    error            // that has ended it
}

// roomEvery is how much of a file is written before free space is asked for again.
const roomEvery = 4 << 20

// Create begins a file. ErrExhausted, also of Write, says that the disk is nearly full:
// what is left is for results. When ctx ends, so does the writing.
func (f Files) Create(ctx context.Context, name string, o FileOptions) (*FileWriter, error) {
	if err := validateFileName(name); err != nil {
		return nil, err
	}
	if len(o.Note) > MaxFileNote {
		return nil, fmt.Errorf("file %q: a note of %d bytes, more than %d: %w", name, len(o.Note), MaxFileNote, navvy.ErrInvalid)
	}
	if err := f.e.Room(); err != nil {
		return nil, err
	}
	file := File{Name: name, Note: o.Note, Content: f.e.newContent()}
	return &FileWriter{e: f.e, ctx: ctx, file: file, absent: o.IfAbsent, hash: sha256.New()}, nil
}

// Write writes on. After an error there is nothing to do but Abort.
func (w *FileWriter) Write(p []byte) (int, error) {
	if w.err == nil {
		w.err = w.write(p)
	}
	if w.err != nil {
		return 0, fmt.Errorf("write file %q: %w", w.file.Name, w.err)
	}
	return len(p), nil
}

func (w *FileWriter) write(p []byte) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	if w.file.Size+int64(len(p)) >= w.asked+roomEvery {
		if err := w.e.Room(); err != nil {
			return err
		}
		w.asked = w.file.Size + int64(len(p))
	}
	w.hash.Write(p)
	w.file.Size += int64(len(p))
	if w.log == nil && w.file.Size <= maxInlineFile {
		w.head = append(w.head, p...)
		return nil
	}
	if w.log == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	return w.log.Append(p)
}

// begin begins the log. First it is noted as one that no file names, so that a crash
// leaves none that nobody knows of.
func (w *FileWriter) begin() error {
	err := w.e.committer.do(w.ctx, func(t *tx) error {
		t.put(contentKey(tableLoose, w.file.Content), nil)
		return nil
	})
	if err != nil {
		return err
	}
	w.file.Logged = true
	log, err := w.e.store.CreateLog(w.ctx, contentLog(w.file.Content))
	if err != nil {
		return err
	}
	w.log = log
	err = log.Append(w.head)
	w.head = nil
	return err
}

// SHA256 is the checksum of what was written so far, in hexadecimal digits.
func (w *FileWriter) SHA256() string { return hex.EncodeToString(w.hash.Sum(nil)) }

var errFileOver = fmt.Errorf("the file has been committed or given up: %w", navvy.ErrClosed)

// Commit makes the file durable and gives it its name. If it fails the file is not there,
// and what was there before is, unless the store has failed in between: then it is one of both.
func (w *FileWriter) Commit(ctx context.Context) (File, error) {
	if why := w.err; why != nil {
		return File{}, fmt.Errorf("commit file %q: %w", w.file.Name, errors.Join(why, w.Abort()))
	}
	f := &w.file
	f.SHA256, f.Changed = [sha256.Size]byte(w.hash.Sum(nil)), w.e.now()
	old, err := w.commit(ctx)
	if err != nil {
		return File{}, fmt.Errorf("commit file %q: %w", f.Name, errors.Join(err, w.Abort()))
	}
	w.err = errFileOver
	w.e.dropContent(ctx, old)
	return *f, nil
}

// commit gives the file its name, and returns what had it.
func (w *FileWriter) commit(ctx context.Context) (old *File, err error) {
	if w.log != nil {
		log := w.log
		w.log = nil
		if err := errors.Join(log.Sync(), log.Close()); err != nil {
			return nil, err
		}
	}
	f := &w.file
	err = w.e.committer.do(ctx, func(t *tx) (err error) {
		if old, err = t.file(f.Name); err != nil {
			return err
		}
		if old != nil && w.absent {
			return navvy.ErrExists
		}
		t.setFile(f.Name, f)
		t.loosen(old)
		if f.Logged {
			t.delete(contentKey(tableLoose, f.Content))
		} else {
			t.put(contentKey(tableContent, f.Content), encodeContent(w.head))
		}
		return nil
	})
	return old, err
}

// Abort gives the file up. After Commit it does nothing.
func (w *FileWriter) Abort() error {
	if errors.Is(w.err, errFileOver) {
		return nil
	}
	w.err = errFileOver
	var err error
	if w.log != nil {
		err = w.log.Close()
		w.log = nil
	}
	if !w.file.Logged {
		return err
	}
	// If a commit has failed, the store knows what has become of it.
	ctx := context.WithoutCancel(w.ctx)
	if _, gone := w.e.store.Get(ctx, contentKey(tableLoose, w.file.Content)); gone == nil {
		w.e.dropLog(ctx, w.file.Content)
	}
	return err
}
