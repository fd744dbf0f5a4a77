package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
)

// Side is where an answered message waits until it is acknowledged.
type Side uint8

// The sides. Their numbers are stored.
const (
	// Responses are what answers messages.
	Responses Side = 1
	// DeadLetters are messages that have failed for good.
	DeadLetters Side = 2
)

func (s Side) String() string {
	if s == DeadLetters {
		return "dead letters"
	}
	return "responses"
}

// sideOf is where a task that ended so waits.
func sideOf(s navvy.State) Side {
	if s == navvy.Succeeded {
		return Responses
	}
	return DeadLetters
}

// Letter is a message that waits on one side of its queue: the result of its task is the
// response, or says why it is a dead letter.
type Letter struct {
	Task navvy.TaskID
	Sent time.Time // when it was accepted; letters stand in this order
	// Round is the result's: a task that was retried is another letter.
	Round uint32
}

const letterVersion = 1

// placeLength is that of a place.
const placeLength = 8 + idLength + 8

// Place is where the letter stands on its side of the line: earlier ones have smaller
// places. It says also which task it is.
func (l *Letter) Place() []byte {
	k := binary.BigEndian.AppendUint64(make([]byte, 0, placeLength), uint64(l.Sent.UnixNano()))
	return binary.BigEndian.AppendUint64(append(k, l.Task.Job...), uint64(l.Task.Index))
}

// sidePrefix begins the keys of one side of a line; it has room for a place.
func (l Line) sidePrefix(side Side) []byte {
	k := make([]byte, 0, 4+len(l.Queue)+len(l.Owner)+placeLength)
	k = append(append(append(k, tableLetter), l.Queue...), 0)
	return append(append(append(k, l.Owner...), 0), byte(side))
}

// lettersPrefix begins the keys of a job's letters on one side.
func lettersPrefix(j *navvy.Job, side Side) []byte {
	k := binary.BigEndian.AppendUint64(LineOf(j).sidePrefix(side), uint64(j.Accepted.UnixNano()))
	return append(k, j.ID...)
}

func letterKey(j *navvy.Job, side Side, index int64) []byte {
	return binary.BigEndian.AppendUint64(lettersPrefix(j, side), uint64(index))
}

// letterJob is the job in the key of a letter.
func letterJob(key []byte) navvy.JobID {
	return navvy.JobID(key[len(key)-8-idLength : len(key)-8])
}

// letterAt reads a place and the value that is stored there.
func letterAt(place, value []byte) (Letter, error) {
	if len(place) != placeLength {
		return Letter{}, fmt.Errorf("engine: the place of a letter has %d bytes: %w", len(place), navvy.ErrCorrupt)
	}
	l := Letter{
		Sent: time.Unix(0, int64(binary.BigEndian.Uint64(place))).UTC(),
		Task: navvy.TaskID{Job: navvy.JobID(place[8 : 8+idLength]), Index: int64(binary.BigEndian.Uint64(place[8+idLength:]))},
	}
	var err error
	l.Round, err = decodeLetter(value)
	return l, err
}

// splitLetterKey is the inverse of letterKey.
func splitLetterKey(key []byte) (line Line, side Side, place []byte, err error) {
	parts := bytes.SplitN(key[1:], []byte{0}, 3)
	if len(parts) != 3 || len(parts[2]) != 1+placeLength || Side(parts[2][0]) != Responses && Side(parts[2][0]) != DeadLetters {
		return Line{}, 0, nil, fmt.Errorf("engine: the key %q is none of a letter: %w", key, navvy.ErrCorrupt)
	}
	return Line{Queue: string(parts[0]), Owner: string(parts[1])}, Side(parts[2][0]), parts[2][1:], nil
}

func encodeLetter(round uint32) []byte {
	r := newRecord(tableLetter, letterVersion, 5)
	r.uint(uint64(round))
	return r.b
}

func decodeLetter(b []byte) (round uint32, err error) {
	d, _ := readRecord(b, tableLetter, letterVersion, "letter")
	round = d.uint32()
	return round, d.end()
}
