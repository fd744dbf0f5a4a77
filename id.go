package navvy

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// JobID names a job: 12 characters of Crockford's base 32 in lower case, drawn
// at random, so that a few leading characters are enough to tell jobs apart.
type JobID string

// idAlphabet is Crockford's base 32: no i, l, o, u.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

const idLength = 12

// NewJobID draws a random id: 60 bits. Whoever stores it makes sure that it is new.
func NewJobID() JobID {
	var raw [idLength]byte
	rand.Read(raw[:]) // never fails, see crypto/rand
	for i, b := range raw {
		raw[i] = idAlphabet[b%32]
	}
	return JobID(raw[:])
}

// Validate tells whether the id is well formed. The error wraps ErrInvalid.
func (id JobID) Validate() error {
	if len(id) != idLength {
		return fmt.Errorf("job id %q has %d characters, not %d: %w", string(id), len(id), idLength, ErrInvalid)
	}
	return ValidatePrefix(string(id))
}

// ValidatePrefix tells whether s can be the beginning of a job id: 1 to 12
// characters of its alphabet. The error wraps ErrInvalid.
func ValidatePrefix(s string) error {
	if s == "" || len(s) > idLength {
		return fmt.Errorf("job id %q: an id has 1 to %d characters: %w", s, idLength, ErrInvalid)
	}
	for _, r := range s {
		if !strings.ContainsRune(idAlphabet, r) {
			return fmt.Errorf("job id %q: %q is not a character of an id: %w", s, r, ErrInvalid)
		}
	}
	return nil
}

// TaskID addresses one input of a job. Index counts from 0 in input order.
type TaskID struct {
	Job   JobID
	Index int64
}

// String is the address that people type: job/index.
func (t TaskID) String() string { return string(t.Job) + "/" + strconv.FormatInt(t.Index, 10) }

// ParseTaskID is the inverse of String. The error wraps ErrInvalid.
func ParseTaskID(s string) (TaskID, error) {
	job, index, _ := strings.Cut(s, "/")
	n, err := strconv.ParseInt(index, 10, 64)
	t := TaskID{Job: JobID(job), Index: n}
	if err != nil || n < 0 || t.Job.Validate() != nil || t.String() != s {
		return TaskID{}, fmt.Errorf("task id %.80q: want JOB/INDEX: %w", s, ErrInvalid)
	}
	return t, nil
}

// AttemptID tells the attempts of one task apart, for ever: Number counts from 1
// and Epoch is raised durably each time that a server starts, so that an id
// whose attempt left no record is still never given out twice.
type AttemptID struct {
	Number uint32
	Epoch  uint32
}

// String is number.epoch, as in "2.17".
func (a AttemptID) String() string {
	return strconv.FormatUint(uint64(a.Number), 10) + "." + strconv.FormatUint(uint64(a.Epoch), 10)
}

// ParseAttemptID reads what String wrote. The error wraps ErrInvalid.
func ParseAttemptID(s string) (AttemptID, error) {
	number, epoch, ok := strings.Cut(s, ".")
	n, errN := strconv.ParseUint(number, 10, 32)
	e, errE := strconv.ParseUint(epoch, 10, 32)
	if !ok || errN != nil || errE != nil || n == 0 || e == 0 {
		return AttemptID{}, fmt.Errorf("attempt %q: want NUMBER.EPOCH, as in 2.17: %w", s, ErrInvalid)
	}
	return AttemptID{Number: uint32(n), Epoch: uint32(e)}, nil
}

// After tells whether an attempt came after another one at the same task. Numbers may be given
// again after a start of the server, which has another epoch.
func (a AttemptID) After(b AttemptID) bool {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Number, b.Number)) > 0
}

// IsZero tells whether the id names no attempt.
func (a AttemptID) IsZero() bool { return a == AttemptID{} }

// UUID writes 128 bits as a UUID in its usual form (RFC 9562, 4): in lower case, with dashes.
func UUID(b [16]byte) string {
	text := hex.EncodeToString(b[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}
