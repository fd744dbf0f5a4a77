package faas

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/pickle"
)

func FuzzFields(f *testing.F) {
	for _, body := range []string{`{"name": "f", "payload": "gARL"}`, `{"function_id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "payload": "\n"}`, `[1`, `null`, `{"name": {"a": [null]}}`, "\xff"} {
		f.Add(typeJSON, []byte(body))
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		for _, names := range [][]string{{fieldName, fieldPayload}, {fieldFunction, fieldPayload}} {
			values, err := decodeFields(contentType, body, names)
			if err == nil {
				if len(values) != 2 || names[0] == fieldFunction && len(values[0]) != 36 {
					t.Errorf("%q has %q", body, values)
				}
				continue
			}
			wrong, ok := errors.AsType[fieldErrors](err)
			if !ok || len(wrong) == 0 {
				t.Fatalf("%q: %v", body, err)
			}
			for _, one := range wrong {
				if len(one.Loc) == 0 || one.Msg == "" || one.Type == "" {
					t.Errorf("%q: %+v", body, one)
				}
			}
			if _, err := json.Marshal(wrong); err != nil {
				t.Errorf("%q: %v", body, err)
			}
		}
	})
}

func FuzzPayload(f *testing.F) {
	f.Add("gAROLg==\n")
	f.Add("gAR\r\n OLg= =")
	f.Add(base64.StdEncoding.EncodeToString(exception("RuntimeError", "bad")))
	f.Add("payload")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := decodePayload(text)
		if err != nil {
			if !errors.Is(err, navvy.ErrInvalid) {
				t.Error(err)
			}
			return
		}
		if pickle.Validate(b) != nil {
			t.Errorf("%q is no pickle", b)
		}
		again, err := decodePayload(strings.ReplaceAll(string(appendPayload(nil, b)), `\n`, "\n"))
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q has become %q, %v", b, again, err)
		}
	})
}

// What comes in pieces has the same form as what comes whole.
func FuzzPayloadWriter(f *testing.F) {
	f.Add([]byte(strings.Repeat("0123456789", 30)), 7)
	f.Add([]byte{}, 1)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		size = max(1, size&0xff)
		var got []byte
		w := payloadWriter{write: func(p []byte) error { got = append(got, p...); return nil }}
		for rest := b; len(rest) > 0; {
			n := min(size, len(rest))
			if err := w.add(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.close(); err != nil {
			t.Fatal(err)
		}
		if want := appendPayload(nil, b); !bytes.Equal(got, want) {
			t.Errorf("in pieces of %d: %q, want %q", size, got, want)
		}
	})
}

// What stands for an exception is a pickle, whatever the text.
func FuzzException(f *testing.F) {
	f.Add("worker process died: signal 9")
	f.Add("\xff\n.")
	f.Fuzz(func(t *testing.T, text string) {
		for _, b := range [][]byte{stopped(text), failure(&navvy.Attempt{Message: text}), failure(&navvy.Attempt{Reason: navvy.ReasonOOM}), []byte(nothing)} {
			if err := pickle.Validate(b); err != nil {
				t.Errorf("%q: %v", b, err)
			}
		}
	})
}
