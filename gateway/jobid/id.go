// Package jobid makes UUIDs of the ids of jobs, for other systems' protocols that name
// what runs by a UUID. Nothing has to be kept and looked up: the id comes back from the
// UUID, also after any restart.
package jobid

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/navvy-run/navvy"
)

// Kind says in which system a UUID stands for a job. Those of one are none of another.
type Kind string

// The kinds.
const (
	JobRunner Kind = "navvy job "
	FaaS      Kind = "navvy task "
)

const (
	idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz" // of a navvy.JobID
	idChars    = 12
)

// UUID is the UUID of a job, of version 8 (RFC 9562, 5.8). The 60 bits before the variant
// are those of the id, 5 a character; the 62 behind it are drawn from the kind and the id
// by SHA-256, so that a UUID that navvy has not made is told from one that it has.
func (k Kind) UUID(id navvy.JobID) string {
	var bits uint64
	for _, r := range string(id) {
		bits = bits<<5 | uint64(strings.IndexRune(idAlphabet, r))
	}
	var b [16]byte
	sum := sha256.Sum256([]byte(string(k) + string(id)))
	copy(b[8:], sum[:8])
	for i := range 6 {
		b[i] = byte(bits >> (52 - 8*i))
	}
	b[6] = 0x80 | byte(bits>>8)&0x0f
	b[7] = byte(bits)
	b[8] = 0x80 | b[8]&0x3f
	return navvy.UUID(b)
}

// Job is the job of a UUID. The error wraps navvy.ErrInvalid if it is none, and
// navvy.ErrNotFound if it is none of a job of this kind.
func (k Kind) Job(text string) (navvy.JobID, error) {
	digits := strings.ToLower(text)
	b, err := hex.DecodeString(strings.ReplaceAll(digits, "-", ""))
	dashes := len(digits) == 36 && digits[8] == '-' && digits[13] == '-' && digits[18] == '-' && digits[23] == '-'
	if err != nil || len(b) != 16 || !dashes {
		return "", fmt.Errorf("job id %.64q: want a UUID: %w", text, navvy.ErrInvalid)
	}
	var bits uint64
	for i := range 6 {
		bits = bits<<8 | uint64(b[i])
	}
	bits = bits<<12 | uint64(b[6]&0x0f)<<8 | uint64(b[7])
	var id [idChars]byte
	for i := range id {
		id[i] = idAlphabet[bits>>(5*(idChars-1-i))&31]
	}
	if job := navvy.JobID(id[:]); k.UUID(job) == digits {
		return job, nil
	}
	return "", NotFound(text)
}

// NotFound says that there is no job under the name that its caller has for it.
func NotFound(text string) error { return fmt.Errorf("job %s: %w", text, navvy.ErrNotFound) }
