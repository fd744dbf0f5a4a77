package parcel

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/navvy-run/navvy"
)

func (u *unpacker) zip(archive *os.File, size int64) error {
	list := &zipList{r: archive, most: u.options.MaxEntries, left: int64(u.options.MaxEntries)*listedBytes + zipListBytes}
	r, err := zip.NewReader(list, size)
	if list.err != nil {
		return list.err // whatever was made of it
	} else if err != nil {
		return damaged("", err)
	}
	list.read = true
	for _, f := range r.File {
		if err := u.zipped(f); err != nil {
			return err
		}
	}
	return nil
}

// zipped makes what stands under one name of a zip archive.
func (u *unpacker) zipped(f *zip.File) error {
	mode := f.Mode()
	if mode.IsDir() {
		return u.dir(f.Name)
	}
	const encrypted = 0x1
	if f.Flags&encrypted != 0 || !mode.IsRegular() && mode.Type() != fs.ModeSymlink {
		return bad(f.Name, "it is encrypted, or neither a file, nor a directory, nor a link")
	}
	r, err := f.Open()
	if err != nil {
		return damaged(f.Name, err)
	}
	defer r.Close()
	in := &source{ctx: u.ctx, r: r, left: u.options.MaxBytes + overhead}
	if mode.IsRegular() {
		return u.file(f.Name, mode&0o111 != 0, in)
	}
	target, err := io.ReadAll(io.LimitReader(in, maxName+1))
	if err != nil {
		return damaged(f.Name, err)
	}
	return u.link(f.Name, string(target))
}

// Bounds of what stands at the end of a zip archive: the list of its files.
const (
	listedBytes  = 512     // of a file, on the average: its name, and what else is said of it
	zipListBytes = 1 << 20 // beside that
)

// zipList reads a zip archive for package zip, which takes its list of files into memory as
// a whole, and as many as there are: a count elsewhere in the archive need not be true. So
// what it reads for that is bounded, and the files are counted where it reads them.
type zipList struct {
	r    io.ReaderAt
	most int   // files
	left int64 // bytes
	read bool  // the list is read; what comes now are files
	err  error // why it is no more read

	next  int64  // where the last reading ended
	tail  []byte // its last bytes
	count int    // files in what was read in one go
}

// Beginnings of records, and where the last one has the number of all files.
var (
	listedMark = []byte("PK\x01\x02")
	end64Mark  = []byte("PK\x06\x06")
)

const end64Count = 32

// ReadAt implements io.ReaderAt.
func (l *zipList) ReadAt(p []byte, off int64) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	n, err := l.r.ReadAt(p, off)
	if l.read {
		return n, err
	}
	if off != l.next {
		l.tail, l.count = nil, 0
	}
	l.next = off + int64(n)
	l.left -= int64(n)
	seen := slices.Concat(l.tail, p[:n])
	l.count += bytes.Count(seen, listedMark)
	l.tail = bytes.Clone(seen[max(0, len(seen)-len(listedMark)+1):])
	said := uint64(0) // room is made for so many
	if n >= end64Count+8 && bytes.HasPrefix(p, end64Mark) {
		said = binary.LittleEndian.Uint64(p[end64Count:])
	}
	switch {
	case l.count > l.most || said > uint64(l.most):
		l.err = fmt.Errorf("there are more than %d files: %w", l.most, navvy.ErrInvalid)
	case l.left < 0:
		l.err = fmt.Errorf("its list of files is too long: %w", navvy.ErrInvalid)
	default:
		return n, err
	}
	return 0, l.err
}
