// Package pickle tells by structure alone whether bytes are a pickle. It never makes
// anything of them: to load a pickle is to run whatever its maker wanted.
package pickle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/navvy-run/navvy"
)

// The first and the last protocol that name themselves.
const (
	minProtocol = 2
	maxProtocol = 5
)

// maxMarks is how many marks may be open at once, which is how deeply a pickle nests.
const maxMarks = 1 << 20

const (
	opProto = 0x80
	opStop  = '.'
)

// Validate tells whether b is one pickle, of a protocol that names itself (2 to 5), from
// its PROTO to its STOP, and nothing else: each opcode is one of Python's with all of its
// argument, finds on the stack what it takes, and the last leaves one object there. What
// the objects are it does not look at. It takes time in proportion to the length of b, and
// at most a few megabytes of memory. The error wraps navvy.ErrInvalid.
//
// Python's module pickletools describes the opcodes.
func Validate(b []byte) error {
	if len(b) < 2 || b[0] != opProto {
		return fmt.Errorf("these %d bytes are no pickle: it begins with its protocol: %w", len(b), navvy.ErrInvalid)
	}
	if b[1] < minProtocol || b[1] > maxProtocol {
		return fmt.Errorf("a pickle of protocol %d: want %d to %d: %w", b[1], minProtocol, maxProtocol, navvy.ErrInvalid)
	}
	s := scan{b: b, at: 2}
	for {
		begin := s.at
		ended, err := s.step()
		if err != nil {
			return fmt.Errorf("no pickle: at byte %d of %d: %w: %w", begin, len(b), err, navvy.ErrInvalid)
		}
		if ended {
			break
		}
	}
	if s.at != len(b) {
		return fmt.Errorf("no pickle: %d bytes behind its end: %w", len(b)-s.at, navvy.ErrInvalid)
	}
	return nil
}

// What is wrong with an opcode.
var (
	errShort  = errors.New("the bytes end inside an opcode, or without the last one")
	errOpcode = errors.New("there is no such opcode")
	errText   = errors.New("the argument is not of the opcode's kind")
	errEmpty  = errors.New("the opcode takes more than there is on the stack")
	errMark   = errors.New("the opcode goes back to a mark that is not there")
	errDeep   = errors.New("it nests too deeply")
	errLeft   = errors.New("it ends with more than one object on the stack")
	errMemo   = errors.New("the memo has no such place")
)

// scan is a walk over the opcodes, with the height of the stack that they would make.
type scan struct {
	b  []byte
	at int

	height int   // of the stack above the last mark
	below  []int // the heights below each mark

	puts int   // how often something went into the memo
	high int64 // above the highest place of the memo that was named
}

// step takes one opcode, and tells whether it was the last.
func (s *scan) step() (ended bool, err error) {
	if s.at == len(s.b) {
		return false, errShort
	}
	code := s.b[s.at]
	op := &opcodes[code]
	if op.kind == kindNone {
		return false, errOpcode
	}
	s.at++
	number, err := s.argument(op.arg)
	if err != nil {
		return false, err
	}
	if code == opStop {
		if s.height != 1 || len(s.below) > 0 {
			return true, s.wrongEnd()
		}
		return true, nil
	}
	return false, s.apply(op, number)
}

func (s *scan) wrongEnd() error {
	if s.height == 0 {
		return errEmpty
	}
	return errLeft
}

// apply does to the stack and the memo what the opcode would.
func (s *scan) apply(op *opcode, number int64) error {
	switch op.kind {
	case kindMark:
		if len(s.below) == maxMarks {
			return errDeep
		}
		s.below = append(s.below, s.height)
		s.height = 0
		return nil
	case kindPop: // of an object, or of a mark
		if s.height > 0 {
			s.height--
			return nil
		}
		return s.toMark()
	case kindGet:
		if number >= max(s.high, int64(s.puts)) {
			return errMemo
		}
	case kindPut:
		// Who pickles counts places, and each has cost it a byte.
		if number >= int64(len(s.b)) {
			return errMemo
		}
		s.high = max(s.high, number+1)
		s.puts++
	case kindMemoize:
		s.puts++
	case kindToMark:
		if s.height < int(op.above) {
			return errEmpty
		}
		if err := s.toMark(); err != nil {
			return err
		}
	case kindNone, kindPlain:
	}
	if s.height < int(op.pops) {
		return errEmpty
	}
	s.height += int(op.pushes) - int(op.pops)
	return nil
}

// toMark takes everything off the stack down to the last mark, and the mark.
func (s *scan) toMark() error {
	n := len(s.below)
	if n == 0 {
		return errMark
	}
	s.height, s.below = s.below[n-1], s.below[:n-1]
	return nil
}

// argument goes over the argument of an opcode. It gives those that are numbers and
// matter: a place in the memo.
func (s *scan) argument(a argument) (int64, error) {
	switch a {
	case argNone:
		return 0, nil
	case argByte, argShort, argInt, argLong:
		return s.number(int(a))
	case argFrame:
		n, err := s.number(8)
		if err == nil && n > int64(len(s.b)-s.at) {
			err = errShort
		}
		return n, err
	case argBytes1, argBytes4, argBytes4Signed, argBytes8:
		_, err := s.bytes(a)
		return 0, err
	case argText1, argText4, argText8:
		text, err := s.bytes(a)
		if err == nil && !validText(text) {
			err = errText
		}
		return 0, err
	default:
		return s.lines(a)
	}
}

// number reads an integer of some bytes, the lowest first. One of eight that does not
// fit is the largest there is.
func (s *scan) number(size int) (int64, error) {
	if len(s.b)-s.at < size {
		return 0, errShort
	}
	var full [8]byte
	copy(full[:], s.b[s.at:s.at+size])
	s.at += size
	return int64(min(binary.LittleEndian.Uint64(full[:]), math.MaxInt64)), nil
}

// bytes reads an argument that begins with its length.
func (s *scan) bytes(a argument) ([]byte, error) {
	size := 1
	switch a {
	case argBytes4, argBytes4Signed, argText4:
		size = 4
	case argBytes8, argText8:
		size = 8
	default:
	}
	n, err := s.number(size)
	if err != nil {
		return nil, err
	}
	if a == argBytes4Signed && n > math.MaxInt32 {
		return nil, errText // it is less than nothing
	}
	if n > int64(len(s.b)-s.at) {
		return nil, errShort
	}
	begin := s.at
	s.at += int(n)
	return s.b[begin:s.at], nil
}
