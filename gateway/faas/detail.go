package faas

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
)

// httpError is an answer with one detail.
type httpError struct {
	status int
	detail string
}

func (e *httpError) Error() string { return e.detail }

// fieldError is what is wrong with a part of a request, as FastAPI tells it.
type fieldError struct {
	Loc  []any  `json:"loc"`
	Msg  string `json:"msg"`
	Type string `json:"type"`
	Ctx  any    `json:"ctx,omitempty"`
}

// fieldErrors are all that is wrong with a request.
type fieldErrors []fieldError

func (e fieldErrors) Error() string { return "the request is not valid" }

// What can be wrong with a field.
var (
	missing    = fieldError{Msg: "field required", Type: "value_error.missing"}
	noneField  = fieldError{Msg: "none is not an allowed value", Type: "type_error.none.not_allowed"}
	noString   = fieldError{Msg: "str type expected", Type: "type_error.str"}
	noUUID     = fieldError{Msg: "value is not a valid uuid", Type: "type_error.uuid"}
	noDict     = fieldError{Msg: "value is not a valid dict", Type: "type_error.dict"}
	noEncoding = fieldError{Msg: "There was an error parsing the body", Type: "value_error"}
)

// at is the error for one place of the request.
func (e fieldError) at(loc ...any) fieldError {
	e.Loc = loc
	return e
}

// restTime is how long what is left of the body of a call that has failed may take to
// come: net/http reads a good part of it before it answers.
const restTime = 5 * time.Second

// end ends the answer. Whoever has a part of it already learns of an error by an end that
// is none.
func (e *exchange) end(err error) {
	if err == nil {
		return
	}
	status, detail := describe(err)
	if status >= http.StatusInternalServerError && !errors.Is(err, navvy.ErrUnavailable) {
		e.opts.Logger.Warn("a call of the FaaS gateway failed", "method", e.r.Method, "path", e.r.URL.Path, "error", err)
	}
	if e.begun {
		panic(http.ErrAbortHandler) // what the caller has is not all
	}
	_ = e.control.SetReadDeadline(time.Now().Add(restTime)) // what cannot be bounded in time, in a test, need not be
	e.answer(status, map[string]any{"detail": detail})
}

// describe turns an error into what the caller is told.
func describe(err error) (status int, detail any) {
	if fields, ok := errors.AsType[fieldErrors](err); ok {
		return http.StatusUnprocessableEntity, fields
	}
	if he, ok := errors.AsType[*httpError](err); ok {
		return he.status, he.detail
	}
	text := err.Error()
	for _, sentinel := range []error{navvy.ErrInvalid, navvy.ErrNotFound, navvy.ErrUnavailable, navvy.ErrConflict, navvy.ErrDenied, navvy.ErrUnsupported, navvy.ErrExhausted} {
		text = strings.TrimSuffix(text, ": "+sentinel.Error())
	}
	return api.HTTPStatus(err), text
}

// Error answers with an error, as the contract does: for what comes before it.
func Error(w http.ResponseWriter, err error) {
	status, detail := describe(err)
	text, err := json.Marshal(map[string]any{"detail": detail})
	if err != nil {
		panic(err) // it is made of strings and maps
	}
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(text) // who asked has gone
}

// answer writes a whole answer.
func (e *exchange) answer(status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // it is made of strings and maps
	}
	e.write(status, text)
}

// write writes a whole answer in JSON.
func (e *exchange) write(status int, body []byte) {
	e.begun = true
	e.w.Header().Set("Content-Type", typeJSON)
	_ = e.control.SetWriteDeadline(time.Now().Add(e.opts.WriteTime)) // as of end
	e.w.WriteHeader(status)
	_, _ = e.w.Write(body) // who asked has gone
}
