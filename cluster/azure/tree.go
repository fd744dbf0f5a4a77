package azure

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/navvy-run/navvy"
)

// tree is what a share is filled with: files, by their paths with slashes.
type tree struct {
	root   string
	dirs   []string // each before what is in it
	files  []upFile
	digest string
}

// upFile is a file to upload.
type upFile struct {
	path   string
	size   int64
	sha256 string
}

// mostFiles bounds what one share is filled with.
const mostFiles = 100_000

// readTree reads a directory, or one file, which is alone in its tree. The error wraps
// navvy.ErrNotFound, or navvy.ErrInvalid for what is no file, such as a link.
func readTree(ctx context.Context, dir, from string) (*tree, error) {
	if from == "" {
		return nil, fmt.Errorf("it is missing: %w", navvy.ErrInvalid)
	}
	root := from
	if !filepath.IsAbs(root) {
		root = filepath.Join(dir, root)
	}
	info, err := os.Stat(root)
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("%s is not there: %w", root, navvy.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	t := &tree{root: root}
	if !info.IsDir() {
		t.root = filepath.Dir(root)
		err = t.add(ctx, filepath.Base(root), info)
	} else {
		err = filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
			if err != nil || name == root {
				return err
			}
			rel, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			return t.entry(ctx, filepath.ToSlash(rel), e)
		})
	}
	if err != nil {
		return nil, err
	}
	t.seal()
	return t, nil
}

func (t *tree) entry(ctx context.Context, rel string, e fs.DirEntry) error {
	if base := path.Base(rel); strings.ContainsAny(base, `"\:|<>*?`) || strings.HasSuffix(base, ".") || len(base) > 255 {
		return fmt.Errorf("%s: Azure Files has no such name: it is without \" \\ : | < > * ? and without . at its end: %w", filepath.Join(t.root, rel), navvy.ErrInvalid)
	}
	if e.IsDir() {
		t.dirs = append(t.dirs, rel)
		return nil
	}
	info, err := e.Info()
	if err != nil {
		return err
	}
	return t.add(ctx, rel, info)
}

func (t *tree) add(ctx context.Context, rel string, info fs.FileInfo) error {
	name := filepath.Join(t.root, filepath.FromSlash(rel))
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file: copy what it stands for, or leave it out: %w", name, navvy.ErrInvalid)
	case rel == manifest:
		return fmt.Errorf("%s: that name is navvy's: give it another one: %w", name, navvy.ErrInvalid)
	case len(t.files) == mostFiles:
		return fmt.Errorf("%s has more than %d files: pack them: %w", t.root, mostFiles, navvy.ErrInvalid)
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	h := sha256.New()
	size, err := io.Copy(h, reading{ctx, file})
	if err != nil {
		return err
	}
	t.files = append(t.files, upFile{rel, size, hex.EncodeToString(h.Sum(nil))})
	return nil
}

// reading ends when its context does.
type reading struct {
	ctx context.Context //nolint:containedctx // for as long as one file is read
	r   io.Reader
}

func (r reading) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// seal makes the digest, of names and contents, in the order of the walk.
func (t *tree) seal() {
	h := sha256.New()
	for _, d := range t.dirs {
		_, _ = fmt.Fprintf(h, "%q/\n", d) // never fails
	}
	for _, f := range t.files {
		_, _ = fmt.Fprintf(h, "%q %s\n", f.path, f.sha256)
	}
	t.digest = hex.EncodeToString(h.Sum(nil)[:16])
}
