package faas

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/pickle"
)

// decodePayload gives the pickle of a payload: base 64 in which newlines and other white
// space may stand anywhere. Nobody opens it; that it is a pickle its structure tells. The
// error wraps navvy.ErrInvalid.
func decodePayload(text string) ([]byte, error) {
	packed := make([]byte, 0, len(text))
	for i := range len(text) {
		switch c := text[i]; c {
		case '\n', '\r', ' ', '\t', '\v', '\f':
		default:
			packed = append(packed, c)
		}
	}
	n, err := base64.StdEncoding.Decode(packed, packed) // it reads ahead of what it writes
	if err != nil {
		return nil, fmt.Errorf("the payload is no serialized object: it is not base 64: %w", navvy.ErrInvalid)
	}
	if err := pickle.Validate(packed[:n]); err != nil {
		return nil, fmt.Errorf("the payload is no serialized object: %w", err)
	}
	return packed[:n], nil
}

// mimeLine is how many bytes make a line of base 64 of 76 characters.
const mimeLine = 57

// appendPayload appends bytes in the form of a payload to a JSON string: base 64, with a
// newline behind each 76 characters and at the end.
func appendPayload(dst, b []byte) []byte {
	for len(b) > 0 {
		n := min(mimeLine, len(b))
		dst = base64.StdEncoding.AppendEncode(dst, b[:n])
		dst = append(dst, `\n`...)
		b = b[n:]
	}
	return dst
}

// payloadWriter writes a payload that is too long for memory into a JSON string.
type payloadWriter struct {
	write func([]byte) error
	rest  []byte // of a line that is not full
	text  []byte
}

// add adds bytes to the payload.
func (w *payloadWriter) add(b []byte) error {
	if len(w.rest) > 0 {
		n := min(mimeLine-len(w.rest), len(b))
		w.rest, b = append(w.rest, b[:n]...), b[n:]
		if len(w.rest) < mimeLine {
			return nil
		}
	}
	whole := len(b) / mimeLine * mimeLine
	w.text = appendPayload(appendPayload(w.text[:0], w.rest), b[:whole])
	w.rest = append(w.rest[:0], b[whole:]...)
	if len(w.text) == 0 {
		return nil
	}
	return w.write(w.text)
}

// close writes the last line.
func (w *payloadWriter) close() error { return w.write(appendPayload(w.text[:0], w.rest)) }

// functionName is the name of a function as navvy has it: any string will do here.
func functionName(name string) string {
	name = strings.Map(func(r rune) rune {
		if navvy.ValidateFunctionName(string(r)) != nil {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(name, "_"))
	if name == "" {
		return "_"
	}
	for len(name) > navvy.MaxFunctionName {
		name = strings.ToValidUTF8(name[:navvy.MaxFunctionName], "")
	}
	return name
}

// errLongCode says that a function is too long to be registered.
var errLongCode = &httpError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the function has more than %d bytes: give large data as arguments, or let workers import it", navvy.MaxFunctionCode)}
