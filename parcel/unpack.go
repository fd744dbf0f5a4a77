package parcel

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/navvy-run/navvy"
)

// Unpack makes a directory of an archive, which is read from its beginning. There must be
// nothing of that name yet, and after an error there is nothing again. The error wraps
// navvy.ErrInvalid if the archive holds what it must not, navvy.ErrCorrupt if it is damaged
// or none, and names the file; other errors are about the directory, or about reading.
func Unpack(ctx context.Context, archive *os.File, dir string, o *Options) (Contents, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return Contents{}, err
	}
	contents, err := unpack(ctx, archive, dir, o.withDefaults())
	if err != nil {
		return Contents{}, errors.Join(err, Remove(dir))
	}
	return contents, nil
}

func unpack(ctx context.Context, archive *os.File, dir string, o Options) (Contents, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Contents{}, err
	}
	defer root.Close()
	u := &unpacker{ctx: ctx, root: root, options: o, made: map[string]kind{".": directory}}
	if err := u.read(archive); err != nil {
		return Contents{}, err
	}
	if u.contents.Entries == 0 {
		return Contents{}, errEmpty
	}
	return u.contents, u.finish()
}

// kind is what there is under a name.
type kind int

const (
	file kind = iota + 1
	directory
	link
)

// unpacker makes a directory.
type unpacker struct {
	ctx      context.Context //nolint:containedctx // of the call of Unpack
	root     *os.Root
	options  Options
	contents Contents
	made     map[string]kind
	dirs     []string    // of made
	links    [][2]string // of made, with what they lead to
}

// damaged says that an archive is not whole, or none. What the operating system says of
// reading it is not the archive's fault.
func damaged(name string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok || errors.Is(err, navvy.ErrInvalid) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if name == "" {
		return fmt.Errorf("the archive is damaged, or none: %w: %w", err, navvy.ErrCorrupt)
	}
	return fmt.Errorf("%.200q: the archive is damaged: %w: %w", name, err, navvy.ErrCorrupt)
}

// source reads an archive, no more of it than there can be, until the context ends.
type source struct {
	ctx  context.Context //nolint:containedctx // of the call of Unpack
	r    io.Reader
	left int64
}

// overhead is how much an archive may have beside what its files hold.
const overhead = 1 << 30

func (s *source) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	if s.left <= 0 {
		return 0, fmt.Errorf("it holds more than it may: %w", navvy.ErrInvalid)
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	return n, err
}

// read finds out what the archive is, and makes what is in it.
func (u *unpacker) read(archive *os.File) error {
	if _, err := archive.Seek(0, io.SeekStart); err != nil {
		return err
	}
	info, err := archive.Stat()
	if err != nil {
		return err
	}
	if info.Size() > u.options.MaxBytes+overhead {
		return fmt.Errorf("the archive has %d bytes, and what is in it may have %d: %w", info.Size(), u.options.MaxBytes, navvy.ErrInvalid)
	}
	buffered := bufio.NewReader(archive)
	first, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	in := &source{ctx: u.ctx, r: buffered, left: u.options.MaxBytes + overhead}
	switch {
	case bytes.HasPrefix(first, []byte("PK\x03\x04")), bytes.HasPrefix(first, []byte("PK\x05\x06")):
		return u.zip(archive, info.Size())
	case bytes.HasPrefix(first, []byte("\x1f\x8b")):
		plain, err := gzip.NewReader(buffered)
		if err != nil {
			return damaged("", err)
		}
		in.r = plain
	}
	if err := u.tar(tar.NewReader(in)); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in) // what stands behind the end has a checksum, too
	if err != nil {
		return damaged("", err)
	}
	return nil
}

func (u *unpacker) tar(r *tar.Reader) error {
	for last := ""; ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return damaged(last, err)
		}
		last = h.Name
		switch h.Typeflag {
		case tar.TypeXGlobalHeader:
			continue
		case tar.TypeDir:
			err = u.dir(h.Name)
		case tar.TypeReg, tar.TypeRegA, tar.TypeGNUSparse: //nolint:staticcheck // old archives have it
			err = u.file(h.Name, h.Mode&0o111 != 0, r)
		case tar.TypeSymlink:
			err = u.link(h.Name, h.Linkname)
		case tar.TypeLink:
			err = u.again(h.Name, h.Linkname)
		default:
			err = bad(h.Name, "it is neither a file, nor a directory, nor a link")
		}
		if err != nil {
			return err
		}
	}
}

// enter counts an entry, and makes the directories above it.
func (u *unpacker) enter(name string) (clean string, err error) {
	clean = strings.TrimSuffix(name, "/")
	for strings.HasPrefix(clean, "./") {
		clean = strings.TrimLeft(clean[2:], "/")
	}
	if clean == "" {
		clean = "."
	}
	if err := checkName(clean); err != nil {
		return "", err
	}
	return clean, u.parents(clean)
}

// count counts what is about to be made.
func (u *unpacker) count(name string) error {
	if u.contents.Entries++; u.contents.Entries > u.options.MaxEntries {
		return bad(name, "there are more than %d files", u.options.MaxEntries)
	}
	return nil
}

func (u *unpacker) parents(name string) error {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		if err := u.mkdir(name[:i]); err != nil {
			return err
		}
	}
	return nil
}

// mkdir makes a directory, unless it has been made. Nothing is made through a link.
func (u *unpacker) mkdir(name string) error {
	switch u.made[name] {
	case directory:
		return nil
	case file, link:
		return bad(name, "it is a directory, and something else as well")
	}
	if err := u.count(name); err != nil {
		return err
	}
	u.made[name] = directory
	u.dirs = append(u.dirs, name)
	return u.root.Mkdir(name, 0o700)
}

func (u *unpacker) dir(name string) error {
	name, err := u.enter(name)
	if err != nil {
		return err
	}
	return u.mkdir(name)
}

// begin begins what is no directory.
func (u *unpacker) begin(name string, what kind) (string, error) {
	name, err := u.enter(name)
	if err != nil {
		return "", err
	}
	if u.made[name] != 0 {
		return "", bad(name, "it is there twice")
	}
	u.made[name] = what
	return name, u.count(name)
}

func (u *unpacker) file(name string, executable bool, r io.Reader) (err error) {
	if name, err = u.begin(name, file); err != nil {
		return err
	}
	mode := fs.FileMode(0o444)
	if executable {
		mode |= 0o111
	}
	if u.options.Writable {
		mode |= 0o200
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	room := u.options.MaxBytes - u.contents.Bytes
	in := &noted{r: io.LimitReader(r, room+1)}
	n, err := io.Copy(f, in)
	if in.err != nil {
		return damaged(name, in.err)
	} else if err != nil {
		return err
	}
	if n > room {
		return bad(name, "all files together have more than %d bytes", u.options.MaxBytes)
	}
	u.contents.Bytes += n
	return f.Chmod(mode)
}

// noted keeps what went wrong with reading, to tell it from writing.
type noted struct {
	r   io.Reader
	err error
}

func (n *noted) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		n.err = err
	}
	return k, err
}

func (u *unpacker) link(name, target string) error {
	name, err := u.begin(name, link)
	if err == nil {
		err = checkLink(name, target)
	}
	if err != nil {
		return err
	}
	u.links = append(u.links, [2]string{name, target})
	return u.root.Symlink(target, name)
}

// again makes a file that is one with an earlier one in the archive: here, a copy.
func (u *unpacker) again(name, earlier string) error {
	from := path.Clean(earlier)
	if u.made[from] != file {
		return bad(name, "it is to be one with %.200q, which is no file before it", earlier)
	}
	f, err := u.root.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return u.file(name, info.Mode()&0o111 != 0, &source{ctx: u.ctx, r: f, left: u.options.MaxBytes + overhead})
}

// finish sees where links lead, and makes directories what they are to be, when all is in
// them.
func (u *unpacker) finish() error {
	for _, l := range u.links {
		if err := checkThere(u.root, l[0], l[1]); err != nil {
			return err
		}
	}
	mode := fs.FileMode(0o555)
	if u.options.Writable {
		mode = 0o755
	}
	for _, name := range append(u.dirs, ".") {
		if err := u.root.Chmod(name, mode); err != nil {
			return err
		}
	}
	return nil
}
