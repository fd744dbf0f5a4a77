package inpod

import (
	"compress/flate"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
)

// Load is what a pod has to do.
type Load struct {
	// Timeout bounds each task, from when its program begins; 0 for none. Grace is how long
	// it then has between being asked to end and being made to.
	Timeout, Grace time.Duration
	Tasks          []Task
}

// Task is one of them.
type Task struct {
	Index int64
	Argv  []string // its program and what that is given
	Env   []string // NAME=VALUE each, over what the pod has
}

// Size is about how many bytes a task adds to a load, not compressed.
func (t *Task) Size() int {
	n := 3 * binary.MaxVarintLen64
	for _, list := range [][]string{t.Argv, t.Env} {
		for _, s := range list {
			n += len(s) + binary.MaxVarintLen32
		}
	}
	return n
}

// Bounds of a load: of the bytes of its tasks together, by Task.Size, and of what they are
// packed into. The longest argument that Linux takes has 128 KiB.
const (
	MaxSize  = 384 << 10
	maxPiece = 96 << 10
)

// The format: a byte of version; then, compressed by DEFLATE and as base64, numbers as
// varints, texts and lists with their lengths before them, in the order of the types above.
const loadVersion = "1"

// Pack makes arguments of a load, each short enough to be one. They hold nothing that
// Kubernetes would expand.
func (l *Load) Pack() ([]string, error) {
	var text strings.Builder
	text.WriteString(loadVersion)
	coder := base64.NewEncoder(base64.RawStdEncoding, &text)
	squeezed, err := flate.NewWriter(coder, flate.DefaultCompression)
	if err != nil {
		return nil, err
	}
	if _, err := squeezed.Write(l.append(nil)); err != nil {
		return nil, err
	}
	if err := squeezed.Close(); err != nil {
		return nil, err
	}
	if err := coder.Close(); err != nil {
		return nil, err
	}
	var pieces []string
	rest := text.String()
	for len(rest) > maxPiece {
		pieces, rest = append(pieces, rest[:maxPiece]), rest[maxPiece:]
	}
	return append(pieces, rest), nil
}

func (l *Load) append(b []byte) []byte {
	b = binary.AppendVarint(b, int64(l.Timeout))
	b = binary.AppendVarint(b, int64(l.Grace))
	b = binary.AppendUvarint(b, uint64(len(l.Tasks)))
	for i := range l.Tasks {
		t := &l.Tasks[i]
		b = binary.AppendVarint(b, t.Index)
		for _, list := range [][]string{t.Argv, t.Env} {
			b = binary.AppendUvarint(b, uint64(len(list)))
			for _, s := range list {
				b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
			}
		}
	}
	return b
}

// maxLoad bounds what a load may be once it is not compressed.
const maxLoad = 4 << 20

// Unpack reads what Pack has made. The error wraps navvy.ErrCorrupt.
func Unpack(pieces []string) (*Load, error) {
	text, ok := strings.CutPrefix(strings.Join(pieces, ""), loadVersion)
	if !ok {
		return nil, fmt.Errorf("pod: the tasks are of a version that this navvy does not know: %w", navvy.ErrCorrupt)
	}
	squeezed := flate.NewReader(base64.NewDecoder(base64.RawStdEncoding, strings.NewReader(text)))
	b, err := io.ReadAll(io.LimitReader(squeezed, maxLoad+1))
	if err != nil {
		return nil, fmt.Errorf("pod: the tasks cannot be read: %w: %w", err, navvy.ErrCorrupt)
	}
	r := reader{b: b, ok: len(b) <= maxLoad}
	l := &Load{Timeout: time.Duration(r.int()), Grace: time.Duration(r.int())}
	for range r.count() {
		t := Task{Index: r.int()}
		t.Argv, t.Env = r.list(), r.list()
		l.Tasks = append(l.Tasks, t)
	}
	if !r.ok || len(r.b) > 0 {
		return nil, fmt.Errorf("pod: the tasks are damaged: %w", navvy.ErrCorrupt)
	}
	for i := range l.Tasks {
		if len(l.Tasks[i].Argv) == 0 {
			return nil, fmt.Errorf("pod: task %d has no program: %w", l.Tasks[i].Index, navvy.ErrCorrupt)
		}
	}
	return l, nil
}

// reader reads a load. After a mistake all is zero.
type reader struct {
	b  []byte
	ok bool
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	return advance(r, v, n)
}

// count is a number of things of a byte at least, which are all there.
func (r *reader) count() uint64 {
	v, n := binary.Uvarint(r.b)
	if v = advance(r, v, n); v > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return v
}

func (r *reader) fail() { r.b, r.ok = nil, false }

func advance[T int64 | uint64](r *reader, v T, n int) T {
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) list() []string {
	var list []string
	for range r.count() {
		n := r.count()
		list = append(list, string(r.b[:n]))
		r.b = r.b[n:]
	}
	return list
}
