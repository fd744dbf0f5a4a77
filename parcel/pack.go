package parcel

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Pack writes a directory to w as an archive. The error wraps navvy.ErrInvalid, and names
// the file, if there is something in it that an archive cannot hold: a pipe, a device, a
// link that leads out of it or to nothing in it, a name that is no UTF-8, or more than the
// options say.
func Pack(ctx context.Context, w io.Writer, dir string, o *Options) (Contents, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Contents{}, err
	}
	defer root.Close()
	zipped := gzip.NewWriter(w)
	p := &packer{ctx: ctx, root: root, options: o.withDefaults(), to: tar.NewWriter(zipped)}
	if err := fs.WalkDir(root.FS(), ".", p.add); err != nil {
		return Contents{}, fmt.Errorf("pack %s: %w", dir, err)
	}
	if p.contents.Entries == 0 {
		return Contents{}, fmt.Errorf("pack %s: %w", dir, errEmpty)
	}
	return p.contents, errors.Join(p.to.Close(), zipped.Close())
}

// packer writes an archive.
type packer struct {
	ctx      context.Context //nolint:containedctx // of the call of Pack
	root     *os.Root
	options  Options
	to       *tar.Writer
	contents Contents
}

// add writes one file, directory or link. They come in the order of their names.
func (p *packer) add(name string, d fs.DirEntry, err error) error {
	if err != nil || name == "." {
		return err
	}
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	if err := checkName(name); err != nil {
		return err
	}
	if p.contents.Entries++; p.contents.Entries > p.options.MaxEntries {
		return bad(name, "there are more than %d files", p.options.MaxEntries)
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	switch {
	case info.IsDir():
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, name+"/", 0o755
	case info.Mode()&fs.ModeSymlink != 0:
		if h.Linkname, err = p.root.Readlink(name); err != nil {
			return err
		}
		h.Linkname = strings.TrimSuffix(h.Linkname, "/")
		if err := checkLink(name, h.Linkname); err != nil {
			return err
		}
		if err := checkThere(p.root, name, h.Linkname); err != nil {
			return err
		}
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
	case info.Mode().IsRegular():
		return p.file(h, info)
	default:
		return bad(name, "it is neither a file, nor a directory, nor a link")
	}
	return p.to.WriteHeader(h)
}

// file writes a file.
func (p *packer) file(h *tar.Header, info fs.FileInfo) error {
	if p.contents.Bytes += info.Size(); p.contents.Bytes > p.options.MaxBytes {
		return bad(h.Name, "all files together have more than %d bytes", p.options.MaxBytes)
	}
	h.Typeflag, h.Size, h.Mode = tar.TypeReg, info.Size(), 0o644
	if info.Mode()&0o111 != 0 {
		h.Mode = 0o755
	}
	f, err := p.root.Open(h.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.to.WriteHeader(h); err != nil {
		return err
	}
	if _, err := io.Copy(p.to, io.LimitReader(f, h.Size)); err != nil {
		return err
	}
	return p.to.Flush() // an error if it has become shorter
}
