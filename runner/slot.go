package runner

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// The journal's format, all numbers little-endian. The file is a header and then
// slots, slotSize bytes each. A slot holds an intent, and from handleAt on a
// handle: two records, because the death of navvy while it writes the second
// must not cost the first.
//
//	header: magic, version (4)
//	intent: state (1), checksum of the rest (4), its length (2), seq (8),
//	        started (8), index (8), number (4), epoch (4), and, each with its
//	        length (1) before it: job, kind, token
//	handle: checksum of the rest (4), its length (2), seq of its intent (8), handle
const (
	journalMagic   = "navvy-journal\n"
	journalVersion = 1

	slotSize = 1 << 10
	handleAt = 512
	seqSize  = 8

	slotFree = 0
	slotUsed = 1
)

func slotOffset(slot int) int64 { return int64(slot+1) * slotSize }

func journalHeader() []byte {
	return binary.LittleEndian.AppendUint32([]byte(journalMagic), journalVersion)
}

func checkHeader(b []byte) error {
	version, ok := bytes.CutPrefix(b, []byte(journalMagic))
	if !ok || len(version) < 4 {
		return fmt.Errorf("the file is no journal: %w", navvy.ErrCorrupt)
	}
	if v := binary.LittleEndian.Uint32(version); v != journalVersion {
		return fmt.Errorf("version %d, this navvy knows %d only: %w", v, journalVersion, navvy.ErrCorrupt)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal fills in the length and the checksum of a record whose sealed part,
// length first, begins at start+4.
func seal(b []byte, start int) {
	binary.LittleEndian.PutUint16(b[start+4:], uint16(len(b)-start-6))
	binary.LittleEndian.PutUint32(b[start:], crc32.Checksum(b[start+4:], castagnoli))
}

// unseal returns what was sealed in b; false if b is not what seal left.
func unseal(b []byte) ([]byte, bool) {
	n := int(binary.LittleEndian.Uint16(b[4:]))
	if 6+n > len(b) || crc32.Checksum(b[4:6+n], castagnoli) != binary.LittleEndian.Uint32(b) {
		return nil, false
	}
	return b[6 : 6+n], true
}

func encodeIntent(b []byte, e *Entry, seq uint64) ([]byte, error) {
	b = append(b, slotUsed, 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Started.UnixNano()))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Task.Index))
	b = binary.LittleEndian.AppendUint32(b, e.Attempt.Number)
	b = binary.LittleEndian.AppendUint32(b, e.Attempt.Epoch)
	for _, s := range [...]string{string(e.Task.Job), e.Kind, e.Token} {
		if len(s) > 150 {
			return nil, fmt.Errorf("%q does not fit into a slot: %w", s, navvy.ErrInvalid)
		}
		b = append(append(b, byte(len(s))), s...)
	}
	seal(b, 1)
	return b, nil
}

func encodeHandle(b []byte, seq uint64, handle []byte) []byte {
	b = append(b, 0, 0, 0, 0, 0, 0)
	b = append(binary.LittleEndian.AppendUint64(b, seq), handle...)
	seal(b, 0)
	return b
}

// decodeSlot reads a slot. A torn intent counts as none: nothing is started
// before it is written. A torn or foreign handle counts as one not yet written.
func decodeSlot(slot []byte) (e Entry, seq uint64, ok bool) {
	if slot[0] != slotUsed {
		return Entry{}, 0, false
	}
	intent, ok := unseal(slot[1:handleAt])
	if !ok || len(intent) < 32 {
		return Entry{}, 0, false
	}
	u64, u32 := binary.LittleEndian.Uint64, binary.LittleEndian.Uint32
	seq = u64(intent)
	e.Started = time.Unix(0, int64(u64(intent[8:])))
	e.Task.Index = int64(u64(intent[16:]))
	e.Attempt = navvy.AttemptID{Number: u32(intent[24:]), Epoch: u32(intent[28:])}
	var names [3]string
	rest := intent[32:]
	for i := range names {
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return Entry{}, 0, false
		}
		names[i], rest = string(rest[1:1+rest[0]]), rest[1+rest[0]:]
	}
	e.Task.Job, e.Kind, e.Token = navvy.JobID(names[0]), names[1], names[2]
	if of, handle, ok := decodeHandle(slot); ok && of == seq {
		e.Handle = bytes.Clone(handle)
	}
	return e, seq, true
}

// decodeHandle reads the handle in a slot, whosever it is, and the seq of its
// intent. It returns a part of the slot, and false if there is no whole handle.
func decodeHandle(slot []byte) (seq uint64, handle []byte, ok bool) {
	b, ok := unseal(slot[handleAt:])
	if !ok || len(b) < seqSize || len(b)-seqSize > driver.MaxHandle {
		return 0, nil, false
	}
	return binary.LittleEndian.Uint64(b), b[seqSize:], true
}
