package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Files are files that the engine keeps by their names. A file appears whole or not at
// all, in the place of another or not, and is durable then; who reads one reads it to its
// end, whatever becomes of its name meanwhile. Its methods may be called at once.
type Files struct{ e *Engine }

// Files gives the files that the engine keeps.
func (e *Engine) Files() Files { return Files{e} }

func noFile(name string) error { return fmt.Errorf("file %q: %w", name, navvy.ErrNotFound) }

// Stat tells of a file; ErrNotFound if there is none.
func (f Files) Stat(ctx context.Context, name string) (File, error) {
	if err := validateFileName(name); err != nil {
		return File{}, err
	}
	b, err := f.e.store.Get(ctx, fileKey(name))
	if errors.Is(err, navvy.ErrNotFound) {
		return File{}, noFile(name)
	} else if err != nil {
		return File{}, fmt.Errorf("file %q: %w", name, err)
	}
	return decodeFile(name, b)
}

// Scan calls fn for the files whose names begin with prefix, from the name from on, in
// byte order, as they are at one moment, until fn returns an error, which Scan hands on;
// ErrStop ends it without one.
func (f Files) Scan(ctx context.Context, prefix, from string, fn func(*File) error) error {
	r := driver.Prefix(fileKey(prefix))
	if from > prefix {
		r.Start = fileKey(from)
	}
	return f.e.store.Scan(ctx, r, func(key, value []byte) error {
		file, err := decodeFile(string(key[1:]), value)
		if err != nil {
			return err
		}
		return fn(&file)
	})
}

// Delete removes a file; ErrNotFound if there is none.
func (f Files) Delete(ctx context.Context, name string) error {
	if err := validateFileName(name); err != nil {
		return err
	}
	var old *File
	err := f.e.committer.do(ctx, func(t *tx) (err error) {
		if old, err = t.file(name); err != nil {
			return err
		}
		if old == nil {
			return noFile(name)
		}
		t.setFile(name, nil)
		t.loosen(old)
		return nil
	})
	if err == nil {
		f.e.dropContent(ctx, old)
	}
	return err
}

// Move gives a file another name in one step, in the place of what has it.
func (f Files) Move(ctx context.Context, from, to string) error {
	if err := errors.Join(validateFileName(from), validateFileName(to)); err != nil {
		return err
	}
	if from == to {
		_, err := f.Stat(ctx, from)
		return err
	}
	var old *File
	err := f.e.committer.do(ctx, func(t *tx) error {
		file, err := t.file(from)
		if err == nil && file == nil {
			err = noFile(from)
		}
		if err != nil {
			return err
		}
		if old, err = t.file(to); err != nil {
			return err
		}
		t.setFile(from, nil)
		t.setFile(to, file)
		t.loosen(old)
		return nil
	})
	if err == nil {
		f.e.dropContent(ctx, old)
	}
	return err
}

// file reads a file, nil if there is none, with what earlier steps of this commit did.
func (t *tx) file(name string) (*File, error) {
	e, err := t.entry(fileKey(name))
	if err != nil {
		return nil, fmt.Errorf("engine: read file %q: %w", name, err)
	}
	if e.value == nil {
		return nil, nil
	}
	f, err := decodeFile(name, e.value)
	return &f, err
}

// setFile stages what a name names, nil for nothing, after file has read it. The store's
// own condition is that nobody else has changed it since.
func (t *tx) setFile(name string, f *File) {
	key := fileKey(name)
	e := t.entries[string(key)]
	if e.stored == nil {
		t.batch.IfAbsent(key)
	} else {
		t.batch.IfEqual(key, e.stored)
	}
	if f == nil {
		e.value = nil
		t.delete(key)
		return
	}
	e.value = encodeFile(f)
	t.put(key, e.value)
}

// loosen stages that nothing names the content of a file any more; nil for no file.
func (t *tx) loosen(f *File) {
	switch {
	case f == nil:
	case f.Logged:
		t.put(contentKey(tableLoose, f.Content), nil)
	default:
		t.delete(contentKey(tableContent, f.Content))
	}
}
