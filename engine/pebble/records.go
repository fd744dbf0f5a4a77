package pebble

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// Both the storage engine's log of changes and its manifest are files of
// records: blocks of 32 KiB, in them chunks, one or more a record. This is
// enough of a reader to look for damage; the format is described in package
// record of github.com/cockroachdb/pebble.

const recordBlock = 32 << 10

// The kinds of chunk come in groups of four: full, first, middle, last. Only
// those of the log carry the number of their file, only the newest also how far
// the file was durable when they were written.
const (
	plainChunks    = 1
	numberedChunks = 5
	syncedChunks   = 9
	behindChunks   = 13
)

// chunk is a sound piece of a record.
type chunk struct {
	first, last bool
	synced      int64 // the file was durable up to here, at least
	payload     []byte
	end         int // in the block
}

// recordFile reads a file of records block by block.
type recordFile struct {
	r      io.Reader
	log    bool   // the log of changes, not the manifest
	number uint32 // of a log's file
	block  []byte // the current one
	offset int64  // of the current one in the file
}

// next reads the next block; false at the end of the file.
func (f *recordFile) next() (bool, error) {
	f.offset += int64(len(f.block))
	if f.block == nil {
		f.block = make([]byte, recordBlock)
	}
	n, err := io.ReadFull(f.r, f.block[:recordBlock])
	f.block = f.block[:n]
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n > 0, err
}

// at returns the chunk that begins at a position of the block, if there is a
// sound one.
func (f *recordFile) at(pos int) (c chunk, ok bool) {
	b := f.block[pos:]
	if len(b) < 7 {
		return chunk{}, false
	}
	kind := int(b[6])
	header := f.header(kind)
	end := header + int(binary.LittleEndian.Uint16(b[4:]))
	if header == 0 || end > len(b) || f.log && binary.LittleEndian.Uint32(b[7:]) != f.number {
		return chunk{}, false
	}
	if kind >= syncedChunks {
		c.synced = int64(min(binary.LittleEndian.Uint64(b[11:]), 1<<62))
	}
	if binary.LittleEndian.Uint32(b) != checksum(b[6:end]) {
		return chunk{}, false
	}
	position := (kind - plainChunks) % 4
	c.first, c.last = position == 0 || position == 1, position == 0 || position == 3
	c.payload, c.end = b[header:end], pos+end
	return c, true
}

// header is how many bytes a chunk of a kind has before its payload; 0 if such
// a chunk has no place in the file.
func (f *recordFile) header(kind int) int {
	switch {
	case !f.log && kind >= plainChunks && kind < numberedChunks:
		return 7
	case f.log && kind >= numberedChunks && kind < syncedChunks:
		return 11
	case f.log && kind >= syncedChunks && kind < behindChunks:
		return 19
	}
	return 0
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 {
	sum := crc32.Checksum(b, castagnoli)
	return (sum>>15 | sum<<17) + 0xa282ead8
}

// skipped tells whether the writer left the rest of the block empty.
func (f *recordFile) skipped(pos int) bool {
	if len(f.block) < recordBlock || len(f.block)-pos >= 19 {
		return len(f.block) == pos
	}
	for _, c := range f.block[pos:] {
		if c != 0 {
			return false
		}
	}
	return true
}

// records calls each for every record that is sound, in order, with at most
// the first 64 bytes of its contents, until one is not; lost is where that one
// begins, -1 if the file ends well. Then it calls beyond for the sound chunks
// that are found behind, in whatever is there.
func (f *recordFile) records(each func(head []byte), beyond func(c chunk)) (lost int64, err error) {
	start := int64(-1) // of the record that is being read
	var head []byte
	for {
		more, err := f.next()
		if err != nil {
			return 0, err
		}
		if !more {
			return start, nil // a record that has no end, or none
		}
		pos := 0
		for !f.skipped(pos) {
			c, ok := f.at(pos)
			if !ok || c.first == (start >= 0) {
				if start < 0 {
					start = f.offset + int64(pos)
				}
				return start, f.search(pos, beyond)
			}
			if c.first {
				start, head = f.offset+int64(pos), head[:0]
			}
			head = append(head, c.payload[:min(len(c.payload), 64-len(head))]...)
			if c.last {
				each(head)
				start = -1
			}
			pos = c.end
		}
	}
}

// search looks for sound chunks from a position on, at every offset.
func (f *recordFile) search(pos int, found func(c chunk)) error {
	for {
		for pos < len(f.block) {
			if c, ok := f.at(pos); ok && len(c.payload) > 0 {
				found(c)
				pos = c.end
			} else {
				pos++
			}
		}
		pos = 0
		if more, err := f.next(); err != nil || !more {
			return err
		}
	}
}
