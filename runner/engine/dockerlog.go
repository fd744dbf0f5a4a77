package engine

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"

	"github.com/navvy-run/navvy"
)

// The log of a container comes in frames, in the order in which they were written: which
// stream, three zeros, the length of what follows in four bytes; and in that, as we ask for
// it, the time, a space, and what was written.
// https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach
const (
	frameHeader = 8
	longestTime = 64
	flushAt     = 32 << 10
)

// hashSeed makes hashes of frames comparable within this process.
var hashSeed = maphash.MakeSeed()

// frames copies what frames hold to the two streams, in pieces as they come. last is a hash of
// the last frame with its time, 0 if there was none. What is not a whole frame at the end is
// io.ErrUnexpectedEOF.
func frames(from io.Reader, stdout, stderr io.Writer) (last uint64, err error) {
	r := &frameReader{from: bufio.NewReaderSize(from, 2*flushAt), to: [2]io.Writer{stdout, stderr}}
	for {
		var more bool
		if more, err = r.next(); !more {
			return r.last, errors.Join(err, r.flush())
		}
		if r.from.Buffered() < frameHeader {
			if err := r.flush(); err != nil {
				return r.last, err
			}
		}
	}
}

// frameReader reads frames.
type frameReader struct {
	from  *bufio.Reader
	to    [2]io.Writer
	held  [2]bytes.Buffer // what is to be written
	piece [4 << 10]byte
	last  uint64
}

// next reads a frame; there is none behind the end.
func (r *frameReader) next() (more bool, err error) {
	var header [frameHeader]byte
	if n, err := io.ReadFull(r.from, header[:]); err != nil {
		if n == 0 && errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, err
	}
	const first, second = 1, 2
	stream := int(header[0])
	if stream != first && stream != second || header[1]|header[2]|header[3] != 0 {
		return false, fmt.Errorf("docker: a frame of a log begins with % x: %w", header[:4], navvy.ErrCorrupt)
	}
	var hash maphash.Hash
	hash.SetSeed(hashSeed)
	_ = hash.WriteByte(header[0]) // never fails
	left, err := r.time(&hash, int64(binary.BigEndian.Uint32(header[4:])))
	for left > 0 && err == nil {
		piece := r.piece[:min(left, int64(len(r.piece)))]
		if _, err = io.ReadFull(r.from, piece); err != nil {
			break
		}
		left -= int64(len(piece))
		_, _ = hash.Write(piece)                 // never fails
		_, _ = r.held[stream-first].Write(piece) // never fails
		if r.held[stream-first].Len() >= flushAt {
			err = r.flush()
		}
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return false, err
	}
	r.last = hash.Sum64()
	return true, nil
}

// time reads the time at the beginning of a frame, and returns how much is behind it.
func (r *frameReader) time(hash *maphash.Hash, length int64) (left int64, err error) {
	for left = length; left > 0 && length-left < longestTime; {
		b, err := r.from.ReadByte()
		if err != nil {
			return 0, err
		}
		left--
		_ = hash.WriteByte(b) // never fails
		if b == ' ' {
			return left, nil
		}
	}
	return 0, fmt.Errorf("docker: a frame of a log has no time: %w", navvy.ErrCorrupt)
}

// flush passes on what is held.
func (r *frameReader) flush() error {
	for i := range r.held {
		if r.held[i].Len() == 0 {
			continue
		}
		if _, err := r.to[i].Write(r.held[i].Bytes()); err != nil {
			return err
		}
		r.held[i].Reset()
	}
	return nil
}
