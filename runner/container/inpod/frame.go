package inpod

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
)

// A frame is a line:
//
//	navvy1 KIND SEQUENCE INDEX DATA CHECKSUM
//
// KIND is one letter, SEQUENCE counts from 0 in a pod, INDEX is the task's, DATA is in base64,
// behind a tilde if it is compressed by DEFLATE, or a dash for none, CHECKSUM is CRC-32C of what is before its space, in hexadecimal. So what
// reads the lines sees what is missing, and what others have written between them.
const frameMagic = "navvy1 "

// Kind says what a frame tells.
type Kind byte

// The kinds.
const (
	KindBegin  Kind = 'b' // the program of a task is about to begin
	KindStdout Kind = 'o' // it has written Data
	KindStderr Kind = 'e'
	KindEnd    Kind = 'x' // it has ended, as Data says: an End in JSON
	KindDone   Kind = 'd' // the pod has no more tasks; of none
)

// Frame is one line of a pod's log.
type Frame struct {
	Kind  Kind
	Seq   uint64
	Index int64
	Data  []byte
}

// End is how a task ended.
type End struct {
	Code    int           `json:"code,omitempty"`
	Signal  int           `json:"signal,omitempty"`
	Reason  navvy.Reason  `json:"reason,omitempty"` // why it could not run, or no longer
	Message string        `json:"message,omitempty"`
	Stopped bool          `json:"stopped,omitempty"` // the pod was told to end meanwhile
	OOM     int64         `json:"oom,omitempty"`     // processes that were killed for want of memory
	User    time.Duration `json:"user,omitempty"`    // times in nanoseconds
	System  time.Duration `json:"system,omitempty"`
	Ran     time.Duration `json:"ran,omitempty"`
	Memory  int64         `json:"memory,omitempty"` // the most that a process had, in bytes
}

// maxData bounds the data of a frame that is output: runtimes cut longer lines of logs at 16 KiB.
const maxData = 8 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Writer writes frames. Any number of goroutines may.
type Writer struct {
	mu   sync.Mutex
	to   io.Writer
	seq  uint64
	line []byte

	squeezed bytes.Buffer
	squeezer *flate.Writer // nil before it is needed
}

// NewWriter returns a writer that begins anew.
func NewWriter(to io.Writer) *Writer { return &Writer{to: to} }

// worth is from how many bytes on data is compressed, if that makes it smaller: nodes rotate
// logs by their size.
const worth = 256

// appendData appends data as it is in a frame.
func (w *Writer) appendData(b, data []byte) ([]byte, error) {
	switch {
	case len(data) == 0:
		return append(b, '-'), nil
	case len(data) < worth:
		return base64.StdEncoding.AppendEncode(b, data), nil
	}
	w.squeezed.Reset()
	var err error
	if w.squeezer == nil {
		w.squeezer, err = flate.NewWriter(&w.squeezed, flate.BestSpeed)
	} else {
		w.squeezer.Reset(&w.squeezed)
	}
	if err == nil {
		_, err = w.squeezer.Write(data)
	}
	if err == nil {
		err = w.squeezer.Close()
	}
	if w.squeezed.Len() >= len(data) {
		return base64.StdEncoding.AppendEncode(b, data), err
	}
	return base64.StdEncoding.AppendEncode(append(b, '~'), w.squeezed.Bytes()), err
}

// parseData reads what appendData has written.
func parseData(text []byte) ([]byte, error) {
	if string(text) == "-" {
		return nil, nil
	}
	coded, compressed := bytes.CutPrefix(text, []byte("~"))
	data, err := base64.StdEncoding.AppendDecode(nil, coded)
	if err != nil || !compressed {
		return data, err
	}
	plain, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(data)), MaxLine+1))
	if err == nil && len(plain) > MaxLine {
		err = navvy.ErrCorrupt
	}
	return plain, err
}

// Write writes a frame with one call.
func (w *Writer) Write(kind Kind, index int64, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := append(w.line[:0], frameMagic...)
	b = append(b, byte(kind), ' ')
	b = append(strconv.AppendUint(b, w.seq, 10), ' ')
	b = append(strconv.AppendInt(b, index, 10), ' ')
	b, err := w.appendData(b, data)
	if err != nil {
		return err
	}
	b = append(fmt.Appendf(b, " %08x", crc32.Checksum(b, castagnoli)), '\n')
	w.line = b
	w.seq++
	_, err = w.to.Write(b)
	return err
}

// End writes how a task ended.
func (w *Writer) End(index int64, e *End) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return w.Write(KindEnd, index, data)
}

// Parse reads a line without its newline. It tells false for what is no frame, or a damaged one.
func Parse(line []byte) (Frame, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(frameMagic))
	parts := bytes.Split(rest, []byte(" "))
	const fields = 5
	if !ok || len(parts) != fields || len(parts[0]) != 1 {
		return Frame{}, false
	}
	sum, err := strconv.ParseUint(string(parts[4]), 16, 32)
	if err != nil || crc32.Checksum(line[:bytes.LastIndexByte(line, ' ')], castagnoli) != uint32(sum) {
		return Frame{}, false
	}
	f := Frame{Kind: Kind(parts[0][0])}
	if f.Seq, err = strconv.ParseUint(string(parts[1]), 10, 64); err != nil {
		return Frame{}, false
	}
	if f.Index, err = strconv.ParseInt(string(parts[2]), 10, 64); err != nil {
		return Frame{}, false
	}
	if f.Data, err = parseData(parts[3]); err != nil {
		return Frame{}, false
	}
	return f, true
}

// ParseEnd reads the data of a frame of KindEnd.
func ParseEnd(data []byte) (*End, error) {
	var e End
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("pod: the end of a task: %w: %w", err, navvy.ErrCorrupt)
	}
	return &e, nil
}

// MaxLine bounds a line that is a frame, in bytes: a longer one is none.
const MaxLine = 64 << 10

// Reader makes frames of what comes in pieces. It is for one goroutine at a time.
type Reader struct {
	// Frame takes each frame, Other each line that is none, cut at MaxLine.
	Frame func(Frame)
	Other func(line []byte)

	line []byte
	long bool // the rest of the line is dropped
}

// Write takes a piece. It gives no error.
func (r *Reader) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte{'\n'})
		if room := MaxLine - len(r.line); len(line) > room {
			line, r.long = line[:room], true
		}
		r.line = append(r.line, line...)
		if whole {
			r.take()
		}
		p = rest
	}
	return n, nil
}

func (r *Reader) take() {
	f, ok := Frame{}, false
	if !r.long {
		f, ok = Parse(r.line)
	}
	if ok {
		r.Frame(f)
	} else {
		r.Other(r.line)
	}
	r.line, r.long = r.line[:0], false
}
