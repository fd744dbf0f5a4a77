package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/navvy-run/navvy"
)

// File is what the engine knows of a file.
type File struct {
	Name    string
	Size    int64
	SHA256  [sha256.Size]byte
	Changed time.Time // when it was written; a move leaves it as it is
	// Note is what its keeper says of it, at most MaxFileNote bytes, which the engine does
	// not look into.
	Note []byte
	// Content is what it holds. No two files have the same.
	Content ContentID
	// Logged says that the content lies in a log, and not in the map.
	Logged bool
}

// ContentID names what a file holds: the start of the engine that has written it, and a
// number there. It is used once.
type ContentID struct {
	Epoch  uint32
	Number uint64
}

// String is the id for people, and as a part of a log's name.
func (id ContentID) String() string { return fmt.Sprintf("%d-%d", id.Epoch, id.Number) }

// Bounds of a file.
const (
	MaxFileName = 1 << 10 // bytes
	MaxFileNote = 16 << 10
	// maxInlineFile is how large a file is at most whose content lies in the map: for it one
	// commit is enough, which others share, while a log wants flushes of its own.
	maxInlineFile = 64 << 10
)

const (
	fileVersion    = 1
	contentVersion = 1
)

func encodeFile(f *File) []byte {
	r := newRecord(tableFile, fileVersion, len(f.Note)+96)
	r.uint(uint64(f.Content.Epoch))
	r.uint(f.Content.Number)
	r.bool(f.Logged)
	r.int(f.Size)
	r.bytes(f.SHA256[:])
	r.time(f.Changed)
	r.bytes(f.Note)
	return r.b
}

func decodeFile(name string, b []byte) (File, error) {
	d, _ := readRecord(b, tableFile, fileVersion, fmt.Sprintf("file %q", name))
	f := File{Name: name, Content: ContentID{d.uint32(), d.uint()}, Logged: d.bool(), Size: d.int()}
	if sum := d.bytes(); len(sum) == len(f.SHA256) {
		f.SHA256 = [sha256.Size]byte(sum)
	} else {
		d.fail("a checksum has another length")
	}
	f.Changed = d.time()
	f.Note = bytes.Clone(d.bytes())
	if f.Size < 0 || !f.Logged && f.Size > maxInlineFile {
		d.fail("a size is out of range")
	}
	return f, d.end()
}

func encodeContent(data []byte) []byte {
	r := newRecord(tableContent, contentVersion, len(data)+8)
	r.bytes(data)
	return r.b
}

func decodeContent(id ContentID, b []byte) ([]byte, error) {
	d, _ := readRecord(b, tableContent, contentVersion, fmt.Sprintf("content %s of a file", id))
	data := d.bytes()
	return data, d.end()
}

func fileKey(name string) []byte { return append([]byte{tableFile}, name...) }

// contentKey is where a content is (tableContent), or is noted as one that no file names
// (tableLoose).
func contentKey(table byte, id ContentID) []byte {
	k := append(make([]byte, 0, 1+4+8), table)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(k, id.Epoch), id.Number)
}

// splitContentKey is the inverse of contentKey.
func splitContentKey(key []byte) (ContentID, error) {
	if len(key) != 1+4+8 {
		return ContentID{}, fmt.Errorf("engine: the key %q is none of a content: %w", key, navvy.ErrCorrupt)
	}
	return ContentID{binary.BigEndian.Uint32(key[1:]), binary.BigEndian.Uint64(key[5:])}, nil
}

// contentLog is the log of a content. No job's id is "files".
func contentLog(id ContentID) string {
	return fmt.Sprintf("files/%d/%d/%s", id.Epoch, id.Number/logsPerDirectory, id)
}

func validateFileName(name string) error {
	if name == "" || len(name) > MaxFileName || !utf8.ValidString(name) {
		return fmt.Errorf("file %.40q: want a name of 1 to %d bytes of valid UTF-8: %w", name, MaxFileName, navvy.ErrInvalid)
	}
	return nil
}
