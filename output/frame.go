// Package output is what a task wrote: a sequence of frames, each a piece of its
// standard output or its standard error in the order in which they arrived; a
// log of them that one writer appends to and any number of readers read from
// byte 0, live or later; and the reading of one stream out of both.
//
// A Log lies in memory (NewLog), in a file (Create), or spills to whatever File it
// is given, as the engine's do. Capture puts a process's two streams into one, its
// Reader follows it, and Copy makes two streams again of what any reader gives,
// also one of the file that a log has left.
//
// What two pipes hold when somebody comes to read them has no order any more:
// pieces are in order as far as they were read in order.
package output

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/navvy-run/navvy"
)

// Stream says what a frame belongs to: one of a task's two outputs, or its value.
type Stream uint8

// The streams.
const (
	Stdout Stream = 1
	Stderr Stream = 2
	// Value is what a function has returned, or raised: for whoever called it, and no
	// part of what it wrote.
	Value Stream = 3
)

// HeaderSize is the length of a frame's header: the stream, one byte, and the
// length of the payload that follows, four bytes, the highest first.
const HeaderSize = 5

// MaxPayload bounds one frame's payload, in bytes.
const MaxPayload = 1 << 20

// InlineLimit is the length in bytes of frames below which a finished task's
// output travels in its result instead of a log.
const InlineLimit = 64 << 10

// PutHeader writes the header of a frame whose payload has n bytes to the first
// HeaderSize bytes of dst.
func PutHeader(dst []byte, s Stream, n int) {
	dst[0] = byte(s)
	binary.BigEndian.PutUint32(dst[1:], uint32(n))
}

// AppendFrame appends a frame to dst. payload has at most MaxPayload bytes.
func AppendFrame(dst []byte, s Stream, payload []byte) []byte {
	var header [HeaderSize]byte
	PutHeader(header[:], s, len(payload))
	return append(append(dst, header[:]...), payload...)
}

// ErrShort says that bytes end inside a frame.
var ErrShort = errors.New("the bytes end inside a frame")

// ParseHeader reads a frame's header: which stream it is of and how many payload
// bytes follow. It returns ErrShort if b is shorter than a header, and
// navvy.ErrCorrupt if b is none.
func ParseHeader(b []byte) (Stream, int, error) {
	if len(b) < HeaderSize {
		return 0, 0, ErrShort
	}
	s, n := Stream(b[0]), binary.BigEndian.Uint32(b[1:HeaderSize])
	if s < Stdout || s > Value || n > MaxPayload {
		return 0, 0, fmt.Errorf("output: no frame begins with % x: %w", b[:HeaderSize], navvy.ErrCorrupt)
	}
	return s, int(n), nil
}

// Next takes the first frame off b. It returns ErrShort if b ends inside it, and
// navvy.ErrCorrupt if b begins with no frame. payload and rest lie in b.
func Next(b []byte) (s Stream, payload, rest []byte, err error) {
	s, n, err := ParseHeader(b)
	if err != nil {
		return 0, nil, b, err
	}
	if len(b) < HeaderSize+n {
		return 0, nil, b, ErrShort
	}
	return s, b[HeaderSize : HeaderSize+n], b[HeaderSize+n:], nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// UpdateCRC adds p to the checksum of what came before it; it begins with 0.
func UpdateCRC(crc uint32, p []byte) uint32 { return crc32.Update(crc, castagnoli, p) }
