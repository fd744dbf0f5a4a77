package function

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/navvy-run/navvy"
)

// FuzzAnswer reads whatever a host may send: it comes to an end, hands on no more than
// came, and blames the host for what is no answer.
func FuzzAnswer(f *testing.F) {
	result := appendFrame(nil, frameResult, make([]byte, resultHead), []byte("why"))
	value := appendFrame(nil, frameValue, []byte("a value"))
	f.Add([]byte{})
	f.Add(result)
	f.Add(bytes.Join([][]byte{value, value, result}, nil))
	f.Add(appendFrame(nil, frameHello, []byte(`{"protocol": 1}`)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, frameValue})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, frameResult})
	f.Add(appendFrame(nil, frameResult, bytes.Repeat([]byte{0xff}, resultHead)))
	f.Fuzz(func(t *testing.T, sent []byte) {
		var got bytes.Buffer
		r, err := newIncoming(bytes.NewReader(sent)).answer(func() io.Writer { return &got })
		if got.Len() > len(sent) {
			t.Errorf("a value of %d bytes came out of %d", got.Len(), len(sent))
		}
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, navvy.ErrCorrupt) {
			t.Errorf("%v blames nobody", err)
		}
		if err == nil && (len(r.message) > navvy.MaxMessage || r.User < 0 || r.Memory < 0 || refusalOf(&r) == nil != (r.status == statusOK)) {
			t.Errorf("it took %+v for a result", r)
		}
		if h, err := newIncoming(bytes.NewReader(sent)).hello(); err == nil && h.Protocol != protocol {
			t.Errorf("it took %+v for a host", h)
		}
	})
}
