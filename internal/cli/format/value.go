package format

import (
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"

	"github.com/navvy-run/navvy"
)

// valueObject is what a function returned, or raised: as it is if it is JSON, else its
// bytes in base 64.
type valueObject struct {
	Value           json.RawMessage `json:"value,omitempty"`
	ValueBase64     []byte          `json:"value_base64,omitempty"`
	Exception       json.RawMessage `json:"exception,omitempty"`
	ExceptionBase64 []byte          `json:"exception_base64,omitempty"`
}

// call is the answer of one call in JSON.
type call struct {
	ID  string      `json:"id"` // of the task, as navvy why takes it
	Job navvy.JobID `json:"job"`
	*object
}

// Call is what stands in JSON for an answer alone, that of a job of one call: its job,
// and what it is among others. The error wraps navvy.ErrInvalid: the input is not what its
// format says.
func (a *Answer) Call() (any, error) {
	o, err := a.object(nil)
	return call{ID: a.Result.Task.String(), Job: a.Result.Task.Job, object: o}, err
}

// value shows what the answer's function returned or raised.
func (a *Answer) value() (o valueObject) {
	failed := a.Result.State != navvy.Succeeded
	switch {
	case !a.Result.HasValue():
	case failed && a.isJSON():
		o.Exception = a.Value
	case failed:
		o.ExceptionBase64 = a.Value
	case a.isJSON():
		o.Value = a.Value
	default:
		o.ValueBase64 = a.Value
	}
	return o
}

// isJSON tells whether the value can stand in JSON as it is.
func (a *Answer) isJSON() bool {
	return a.Encoding == navvy.EncodingJSON && utf8.Valid(a.Value) && json.Valid(a.Value)
}

// valueText is what the answer's function returned, for a table; empty if it failed.
func (a *Answer) valueText() string {
	switch {
	case a.Result.State != navvy.Succeeded:
		return ""
	case a.isJSON():
		return string(a.Value)
	default:
		return base64.StdEncoding.EncodeToString(a.Value)
	}
}
