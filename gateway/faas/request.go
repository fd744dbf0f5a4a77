package faas

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/navvy-run/navvy"
)

const typeJSON = "application/json"

// Bounds of what callers send, in bytes.
const (
	maxPayload = 16 << 20 // of one payload, in base 64
	// maxBody leaves room for the newlines of a payload, and what stands beside it.
	maxBody = maxPayload + maxPayload/16
	// maxReading is how much is in memory at once of bodies that are not small.
	maxReading = 8 * maxBody
	smallBody  = 64 << 10
	// maxRefused is how much is read of a body that is too large, before that is said.
	maxRefused = 4 * maxBody
)

// Memory is reserved for a body as it comes: so much at once, and a body waits for it so long.
const (
	readStep = 1 << 20
	readWait = 5 * time.Second
)

// body reads the body within its bound and the time for it. Its memory is reserved until
// leave, since what is made of it is as large.
func (e *exchange) body() ([]byte, error) {
	size := e.r.ContentLength
	if size > maxBody {
		// Many clients hear nothing before all of it is gone.
		return nil, errors.Join(errTooLarge, e.skipBody(maxRefused))
	}
	_ = e.control.SetReadDeadline(time.Now().Add(e.opts.BodyTime)) // as of end
	var read bytes.Buffer
	read.Grow(int(min(max(size, 0), smallBody)) + bytes.MinRead)
	if _, err := read.ReadFrom(&coming{exchange: e, body: http.MaxBytesReader(e.w, e.r.Body, maxBody)}); err != nil {
		if errors.Is(err, errBusy) {
			return nil, err
		}
		return nil, bodyError(err)
	}
	_ = e.control.SetReadDeadline(time.Time{}) // it is known who calls: an answer may take its time
	return read.Bytes(), nil
}

// coming reserves memory for a body as it comes: who sends slowly, or nothing of what was
// announced, keeps nobody else from sending.
type coming struct {
	*exchange
	body io.Reader
	size int64
}

func (c *coming) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	c.size += int64(n)
	for c.size > smallBody && c.held < c.size {
		if !c.reserve() {
			return 0, errBusy
		}
	}
	return n, err
}

func (e *exchange) reserve() bool {
	ctx, cancel := context.WithTimeout(e.ctx, readWait)
	defer cancel()
	if e.reading.Acquire(ctx, readStep) != nil {
		return false
	}
	e.held += readStep
	return true
}

// leave gives back what was reserved.
func (e *exchange) leave() {
	if e.held > 0 {
		e.reading.Release(e.held)
		e.held = 0
	}
}

var errBusy = fmt.Errorf("too many large bodies come at once; try again later: %w", navvy.ErrUnavailable)

var errTooLarge = &httpError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes: give large data by reference", maxBody)}

func bodyError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return errTooLarge
	}
	return fmt.Errorf("the body ends early: %w: %w", err, navvy.ErrInvalid)
}

// skipBody reads a body that no call makes anything of.
func (e *exchange) skipBody(limit int64) error {
	_ = e.control.SetReadDeadline(time.Now().Add(e.opts.BodyTime)) // as of end
	if e.r.ContentLength != 0 {
		if _, err := io.Copy(io.Discard, http.MaxBytesReader(e.w, e.r.Body, limit)); err != nil {
			return bodyError(err)
		}
	}
	_ = e.control.SetReadDeadline(time.Time{})
	return nil
}

// fields reads the body: a JSON object of which the named fields are strings, given in
// their order. Others are left alone. Whatever is wrong is a fieldErrors.
func (e *exchange) fields(names ...string) ([]string, error) {
	body, err := e.body()
	if err != nil {
		return nil, err
	}
	return decodeFields(e.r.Header.Get("Content-Type"), body, names)
}

func decodeFields(contentType string, body []byte, names []string) ([]string, error) {
	if len(body) == 0 {
		return nil, fieldErrors{missing.at("body")}
	}
	if media, _, err := mime.ParseMediaType(contentType); err != nil || media != typeJSON {
		return nil, fieldErrors{noDict.at("body")} // to FastAPI such a body is no object
	}
	if !utf8.Valid(body) {
		return nil, fieldErrors{noEncoding.at("body")}
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		return nil, fieldErrors{badJSON(body, err)}
	}
	if object == nil { // null
		return nil, fieldErrors{missing.at("body")}
	}
	values, wrong := make([]string, len(names)), fieldErrors(nil)
	for i, name := range names {
		var bad *fieldError
		if values[i], bad = field(name, object[name]); bad != nil {
			wrong = append(wrong, bad.at("body", name))
		}
	}
	if wrong != nil {
		return nil, wrong
	}
	return values, nil
}

// field reads a string, which is a UUID where it names a function; raw is nil if it is
// not there.
func field(name string, raw json.RawMessage) (string, *fieldError) {
	wrong := &noString
	if name == fieldFunction {
		wrong = &noUUID
	}
	if raw == nil {
		return "", &missing
	}
	var text *string
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", wrong
	}
	if text == nil {
		return "", &noneField
	}
	if name != fieldFunction {
		return *text, nil
	}
	id, ok := uuid(*text)
	if !ok {
		return "", wrong
	}
	return id, nil
}

// maxEcho is how much of a body that is no JSON its sender gets back, in bytes.
const maxEcho = 200

// badJSON says where a body stops being JSON, or that it is no object.
func badJSON(body []byte, err error) fieldError {
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return noDict.at("body")
	}
	at := min(max(int(syntax.Offset)-1, 0), len(body))
	if strings.HasPrefix(syntax.Error(), "unexpected end") {
		at = len(body)
	}
	before := body[:at]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	place := utf8.RuneCount(before)
	const msg = "Expecting value"
	return fieldError{
		Loc: []any{"body", place}, Type: "value_error.jsondecode",
		Msg: fmt.Sprintf("%s: line %d column %d (char %d)", msg, line, column, place),
		Ctx: map[string]any{"msg": msg, "doc": string(body[:min(len(body), maxEcho)]), "pos": place, "lineno": line, "colno": column},
	}
}

// uuid is a UUID in its usual form, of any that Python reads: with or without dashes,
// braces and prefixes.
func uuid(text string) (string, bool) {
	digits := strings.Trim(strings.TrimPrefix(strings.TrimPrefix(text, "urn:"), "uuid:"), "{}")
	b, err := hex.DecodeString(strings.ReplaceAll(digits, "-", ""))
	if err != nil || len(b) != 16 {
		return "", false
	}
	return navvy.UUID([16]byte(b)), true
}
