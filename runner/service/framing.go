package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/navvy-run/navvy"
)

// plain is a line for a request and a line for its answer, as they are, in order.
type plain struct{}

func (plain) ordered() bool { return true }

func (plain) request(to []byte, _ *call, r *Request) ([]byte, error) {
	if bytes.IndexByte(r.Body, '\n') >= 0 {
		return to, &Failure{Message: "the body has a newline, and lines:CMD gives each request as one line: send it without, or use lines-json:CMD", Final: true}
	}
	return append(append(to, r.Body...), '\n'), nil
}

func (plain) longest(answer int) int { return answer }

func (plain) cancel(to []byte, _ *call) []byte { return to }

func (plain) answer(line []byte) (*reply, error) {
	return &reply{body: append([]byte{}, line...)}, nil
}

// framed is an object of JSON a line, each with the id of its call, so that answers may
// come in any order.
type framed struct{}

// jsonRequest is a line to the service.
type jsonRequest struct {
	ID      string  `json:"id"`
	Request string  `json:"request,omitempty"`
	Attempt int     `json:"attempt,omitempty"`
	Body    *string `json:"body,omitempty"`
	Base64  []byte  `json:"base64,omitempty"`
	Cancel  bool    `json:"cancel,omitempty"`
}

// jsonAnswer is a line from the service: exactly one of body, base64 and error.
type jsonAnswer struct {
	ID     *string `json:"id"`
	Body   *string `json:"body"`
	Base64 *[]byte `json:"base64"`
	Error  *string `json:"error"`
	Final  bool    `json:"final"`
}

func (framed) ordered() bool { return false }

// longest allows for characters that are escaped, six for one, and for the rest of the object.
func (framed) longest(answer int) int { return 6*answer + 4<<10 }

func (framed) request(to []byte, c *call, r *Request) ([]byte, error) {
	q := jsonRequest{ID: strconv.FormatUint(c.id, 10), Request: r.ID, Attempt: r.Attempt}
	if utf8.Valid(r.Body) {
		q.Body = new(string(r.Body))
	} else {
		q.Base64 = r.Body
	}
	return appendJSON(to, &q)
}

func (framed) cancel(to []byte, c *call) []byte {
	line, err := appendJSON(to, &jsonRequest{ID: strconv.FormatUint(c.id, 10), Cancel: true})
	if err != nil {
		return to // which cannot be: it holds a number
	}
	return line
}

func appendJSON(to []byte, q *jsonRequest) ([]byte, error) {
	line, err := encode(q)
	if err != nil {
		return to, err
	}
	return append(append(to, line...), '\n'), nil
}

func (framed) answer(line []byte) (*reply, error) {
	var a jsonAnswer
	if err := json.Unmarshal(line, &a); err != nil {
		return nil, garbage(line, err.Error())
	}
	given := 0
	for _, there := range []bool{a.Body != nil, a.Base64 != nil, a.Error != nil} {
		if there {
			given++
		}
	}
	if a.ID == nil || given != 1 {
		return nil, garbage(line, `want "id" and one of "body", "base64" and "error"`)
	}
	id, err := strconv.ParseUint(*a.ID, 10, 64)
	if err != nil {
		return nil, garbage(line, `"id" is none of navvy's`)
	}
	r := &reply{id: id}
	switch {
	case a.Error != nil:
		r.err = &Failure{Message: *a.Error, Final: a.Final}
	case a.Base64 != nil:
		r.body = *a.Base64
	default:
		r.body = []byte(*a.Body)
	}
	return r, nil
}

func garbage(line []byte, why string) error {
	return fmt.Errorf("the service wrote a line that is no answer: %s: %q", why, navvy.Shorten(string(line)))
}
