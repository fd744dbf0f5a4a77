package function

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/navvy-run/navvy"
)

// The host protocol; docs/functions.md describes it, and host.py is the other end. A
// frame is the length of its payload in four bytes, little-endian, its kind in one,
// and the payload.
const (
	protocol   = 1
	headerSize = 5

	frameScript byte = 0 // the host itself
	frameSetup  byte = 1 // what holds as long as it lives
	frameLoad   byte = 2 // a function
	frameCall   byte = 3

	frameHello  byte = 11 // it is ready
	frameValue  byte = 12 // a piece of what the function returned or raised
	frameResult byte = 13 // the end of a call
)

// The longest payloads that a host may send, in bytes.
const (
	maxHello  = 4 << 10
	maxValue  = 1 << 20
	maxResult = resultHead + navvy.MaxMessage

	resultHead = 1 + 4*8
)

// status is how a call ended.
type status byte

const (
	statusOK         status = 0
	statusException  status = 1
	statusLoadFailed status = 2
	statusBadInput   status = 3
)

// hello is what a host says of itself when it is ready.
type hello struct {
	Protocol int    `json:"protocol"`
	PID      int    `json:"pid"`
	Python   string `json:"python"`
	measured
}

// measured is what a host has used since it began.
type measured struct {
	User   int64 `json:"user"`   // microseconds
	System int64 `json:"system"` // microseconds
	Peak   int64 `json:"peak"`   // bytes
	Memory int64 `json:"memory"` // bytes, now
}

// result is the end of a call.
type result struct {
	status  status
	message string
	measured
}

// errProtocol says that a host sent what no host sends. It wraps navvy.ErrCorrupt.
var errProtocol = fmt.Errorf("it broke the protocol: %w", navvy.ErrCorrupt)

// incoming reads the frames of a host.
type incoming struct {
	r    *bufio.Reader
	head [headerSize]byte
	body [maxResult]byte
}

// readSize is how much is read at once.
const readSize = 64 << 10

func newIncoming(r io.Reader) *incoming { return &incoming{r: bufio.NewReaderSize(r, readSize)} }

// header reads the beginning of a frame.
func (in *incoming) header() (kind byte, size int, err error) {
	if _, err := io.ReadFull(in.r, in.head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF // it died in the middle
		}
		return 0, 0, err
	}
	kind = in.head[4]
	size64 := int64(binary.LittleEndian.Uint32(in.head[:4]))
	longest, ok := map[byte]int64{frameHello: maxHello, frameValue: maxValue, frameResult: maxResult}[kind]
	switch {
	case !ok:
		return 0, 0, fmt.Errorf("a frame of kind %d: %w", kind, errProtocol)
	case size64 > longest:
		return 0, 0, fmt.Errorf("a frame of kind %d with %d bytes, more than %d: %w", kind, size64, longest, errProtocol)
	}
	return kind, int(size64), nil
}

// payload reads a short payload. It is good until the next call.
func (in *incoming) payload(size int) ([]byte, error) {
	_, err := io.ReadFull(in.r, in.body[:size])
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return in.body[:size], err
}

// hello reads the first frame.
func (in *incoming) hello() (hello, error) {
	kind, size, err := in.header()
	if err != nil {
		return hello{}, err
	}
	if kind != frameHello {
		return hello{}, fmt.Errorf("it begins with a frame of kind %d: %w", kind, errProtocol)
	}
	body, err := in.payload(size)
	if err != nil {
		return hello{}, err
	}
	var h hello
	if err := json.Unmarshal(body, &h); err != nil || h.Protocol != protocol {
		return hello{}, fmt.Errorf("it says %q: %w", body, errProtocol)
	}
	return h, nil
}

// answer reads the frames of a call's end. The value is written to what value returns
// when the first of it comes, as far as that takes it; nil drops it.
func (in *incoming) answer(value func() io.Writer) (result, error) {
	var to io.Writer
	for first := true; ; first = false {
		kind, size, err := in.header()
		switch {
		case err != nil:
			return result{}, err
		case kind == frameResult:
			body, err := in.payload(size)
			if err != nil {
				return result{}, err
			}
			return parseResult(body)
		case kind != frameValue:
			return result{}, fmt.Errorf("a frame of kind %d in a call: %w", kind, errProtocol)
		}
		if first {
			to = value()
		}
		if to, err = in.hand(to, size); err != nil {
			return result{}, err
		}
	}
}

// hand hands on a piece of a value, without a copy of its own. It returns where the
// next goes: nowhere once a writer wants no more.
func (in *incoming) hand(to io.Writer, size int) (io.Writer, error) {
	for size > 0 {
		if in.r.Buffered() == 0 {
			if _, err := in.r.Peek(1); err != nil {
				return to, err
			}
		}
		n := min(size, in.r.Buffered())
		piece, err := in.r.Peek(n)
		if err != nil {
			return to, err
		}
		if to != nil {
			if _, err := to.Write(piece); err != nil {
				to = nil
			}
		}
		_, _ = in.r.Discard(n) // they are there
		size -= n
	}
	return to, nil
}

// parseResult parses the payload of a frameResult. Its error wraps navvy.ErrCorrupt.
func parseResult(body []byte) (result, error) {
	if len(body) < resultHead || len(body) > maxResult {
		return result{}, fmt.Errorf("a result of %d bytes: %w", len(body), errProtocol)
	}
	r := result{status: status(body[0])}
	if r.status > statusBadInput {
		return result{}, fmt.Errorf("a result with status %d: %w", r.status, errProtocol)
	}
	for i, to := range []*int64{&r.User, &r.System, &r.Peak, &r.Memory} {
		n := binary.LittleEndian.Uint64(body[1+8*i:])
		if n > 1<<53 {
			return result{}, fmt.Errorf("a result with %d used: %w", n, errProtocol)
		}
		*to = int64(n)
	}
	r.message = string(body[resultHead:])
	return r, nil
}

// since is what was used between two measurements.
func (m measured) since(before measured) navvy.Usage {
	u := navvy.Usage{
		User:      time.Duration(max(m.User-before.User, 0)) * time.Microsecond,
		System:    time.Duration(max(m.System-before.System, 0)) * time.Microsecond,
		MaxMemory: m.Memory,
	}
	if m.Peak > before.Peak {
		u.MaxMemory = m.Peak // it was reached in between
	}
	return u
}

// appendFrame appends a frame whose payload is in pieces.
func appendFrame(to []byte, kind byte, pieces ...[]byte) []byte {
	size := 0
	for _, p := range pieces {
		size += len(p)
	}
	to = appendHeader(to, kind, size)
	for _, p := range pieces {
		to = append(to, p...)
	}
	return to
}

func appendHeader(to []byte, kind byte, size int) []byte {
	return append(binary.LittleEndian.AppendUint32(to, uint32(size)), kind)
}

// loading is how a function is described to a host; its code follows.
type loading struct {
	ID      string             `json:"id"`
	Name    string             `json:"name"`
	Form    navvy.FunctionForm `json:"form"`
	Entry   string             `json:"entry"`
	Python  string             `json:"python"`
	Pickler string             `json:"pickler"`
	Forget  string             `json:"forget,omitempty"` // the id of another, which is not called again unless it is loaded again
}

func appendLoad(to []byte, f *navvy.FunctionVersion, forget string) ([]byte, error) {
	about, err := json.Marshal(loading{f.ID, f.Name, f.Form, f.Entry, f.Python, f.Pickler, forget})
	if err != nil {
		return to, fmt.Errorf("function: describe %s: %w", f.Name, err)
	}
	size := binary.LittleEndian.AppendUint32(nil, uint32(len(about)))
	return appendFrame(to, frameLoad, size, about, f.Code), nil
}

// setup is what holds for all calls of a host.
type setup struct {
	Path []string `json:"path"` // goes before all of sys.path
}

// The bits of a call.
const (
	encodingPickle byte = 0
	encodingJSON   byte = 1
	flagBatch      byte = 1
)

// appendCall appends the frame of a call, less its input, which follows.
func appendCall(to []byte, id string, f *navvy.Function, env []byte, input int) []byte {
	encoding, flags := encodingPickle, byte(0)
	if f.Encoding == navvy.EncodingJSON {
		encoding = encodingJSON
	}
	if f.Batch {
		flags = flagBatch
	}
	const head = 1 + 1 + 2 + 4
	to = appendHeader(to, frameCall, head+len(id)+len(env)+input)
	to = append(to, encoding, flags)
	to = binary.LittleEndian.AppendUint16(to, uint16(len(id)))
	to = binary.LittleEndian.AppendUint32(to, uint32(len(env)))
	return append(append(to, id...), env...)
}
