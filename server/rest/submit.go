package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
)

// Bounds of a submission, in bytes.
const (
	maxSubmit = 8 << 20  // of JSON, which is in memory as a whole
	maxLine   = 16 << 20 // of one input, where inputs come line by line
	// Inputs go on in pieces of so many, or so many bytes.
	pieceInputs = 1000
	pieceBytes  = 256 << 10
)

// Parameters and fields of a submission beside those of the job.
const (
	inputsField   = "inputs"
	startParam    = "stream"
	keyHeader     = "Idempotency-Key"
	maxLineBuffer = 64 << 10
)

// givenFields are those of a job that the server gives.
var givenFields = []string{"id", "owner", "accepted"}

// submit makes a job of the body: of an object, whose inputs are one of its fields, or
// of lines, the first of which is the object and the others are the inputs. The job is
// detached: nobody waits for it on this connection.
func (e *exchange) submit() error {
	if err := e.wantType(typeJSON, typeNDJSON, typeLines); err != nil {
		return err
	}
	streamed, err := e.streamed()
	if err != nil {
		return err
	}
	var head []byte
	var lines *inLines
	if e.media == typeJSON {
		head, err = e.body(maxSubmit)
		if he, ok := errors.AsType[*httpError](err); ok {
			he.text += "; send inputs in any number line by line, as " + typeNDJSON
		}
	} else {
		lines = e.inLines()
		defer lines.done()
		if head, err = lines.next(maxBody); errors.Is(err, io.EOF) {
			err = invalid("the body is empty: want the job in its first line")
		}
	}
	if err != nil {
		return err
	}
	job, inputs, err := e.job(head)
	if err != nil {
		return err
	}
	next, err := fromList(inputs)
	if err != nil {
		return err
	}
	if e.media != typeJSON {
		if inputs != nil {
			return invalid("%s: they come line by line behind the job", inputsField)
		}
		next = fromLines(lines, e.media)
	}
	idle := func() bool { return streamed && (lines == nil || lines.r.Buffered() == 0) }
	return e.send(job, streamed, next, idle)
}

// streamed tells whether tasks may start before the last input has come.
func (e *exchange) streamed() (bool, error) {
	query := e.r.URL.Query()
	for key := range query {
		if key != startParam {
			return false, invalid("unknown parameter %s; there is %s", key, startParam)
		}
	}
	if !query.Has(startParam) {
		return false, nil
	}
	b, ok := boolean(query.Get(startParam)).(bool)
	if !ok {
		return false, invalid("parameter %s: want true or false", startParam)
	}
	return b, nil
}

// job reads the object of a job, and leaves the inputs as they are; nil if it has none.
func (e *exchange) job(text []byte) (*navvyv1.Job, json.RawMessage, error) {
	leave, err := e.enter(e.ctx, len(text))
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	o, inputs, err := decodeBeside(text, inputsField)
	if err != nil {
		return nil, nil, err
	}
	job, err := e.newJob(o)
	return job, inputs, err
}

// newJob reads the fields of a job.
func (e *exchange) newJob(o object) (*navvyv1.Job, error) {
	job := &navvyv1.Job{}
	for _, key := range givenFields {
		if o[key] != nil {
			return nil, invalid("%s: the server gives it; leave it out", key)
		}
	}
	if o["detached"] == false {
		return nil, invalid("detached: a job that comes over HTTP always is; leave it out")
	}
	if err := fill(job.ProtoReflect(), o, "", nil); err != nil {
		return nil, err
	}
	if key := e.r.Header.Get(keyHeader); key != "" {
		job.IdempotencyKey = key
	}
	if job.GetSpec().GetKind() == nil {
		return nil, invalid("spec: want a kind of work, as in {\"spec\": {\"command\": {\"args\": [\"echo\", \"{}\"]}}}")
	}
	job.Detached = true
	return job, nil
}

// source gives the next input, io.EOF behind the last.
type source func() ([]byte, error)

// fromList reads inputs one by one from an array, which is JSON; nil for none.
func fromList(array json.RawMessage) (source, error) {
	if array == nil {
		array = json.RawMessage("[]")
	}
	if array[0] != '[' {
		return nil, invalid("%s: want an array", inputsField)
	}
	d := json.NewDecoder(bytes.NewReader(array))
	_, err := d.Token()
	i := 0
	var raw json.RawMessage
	return func() ([]byte, error) {
		if !d.More() {
			return nil, io.EOF
		}
		if err := d.Decode(&raw); err != nil {
			return nil, noJSON(err)
		}
		i++
		return readInput(raw, fmt.Sprintf("%s[%d]", inputsField, i-1))
	}, err
}

// fromLines reads inputs line by line: as they are, or as JSON.
func fromLines(r *inLines, media string) source {
	number := 1 // of the line; the job was the first
	return func() ([]byte, error) {
		for {
			line, err := r.next(maxLine)
			if number++; err != nil {
				return nil, err
			}
			if media == typeLines {
				return line, nil
			}
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue // between JSON values
			}
			var raw json.RawMessage
			if err := json.Unmarshal(line, &raw); err != nil {
				return nil, fmt.Errorf("line %d: %w", number, noJSON(err))
			}
			return readInput(raw, fmt.Sprintf("line %d", number))
		}
	}
}

// send hands the job and its inputs over, and answers when the job is durable. idle
// tells whether the next input may take its time, and those before it are waited for.
func (e *exchange) send(m *navvyv1.Job, streamed bool, next source, idle func() bool) error {
	// Whoever reads inputs that do not come must not wait for ever when the call is over.
	defer context.AfterFunc(e.ctx, e.stopReading)()
	o := client.SubmitOptions{Stream: streamed, NotIsolated: m.GetSpec().Isolate != nil && !m.GetSpec().GetIsolate()}
	e.duplex = streamed && e.accepts(typeNDJSON) && e.control.EnableFullDuplex() == nil
	sub, err := e.client.Submit(e.ctx, api.ToJob(m), o)
	if err != nil {
		return err
	}
	next, over := e.until(sub, next)
	defer func() {
		sub.Close()
		<-over
	}()
	if err := sendAll(sub, next, idle); err != nil {
		if !e.brokeOff(err) {
			sub.Abort(err.Error())
		}
		return err
	}
	id, existed, err := sub.Accepted(e.ctx)
	if err != nil {
		return err
	}
	if e.duplex {
		<-over
		return e.toldAll(id)
	}
	e.accepted(id, existed, typeJSON)
	_ = e.write(acceptedLine(id, existed)) // a caller who has gone is told nothing
	return nil
}

// brokeOff tells whether inputs ended with err since the caller or the server has left, or
// the time of one of them was over: more may have been meant to come, and the job is held.
func (e *exchange) brokeOff(err error) bool {
	return e.ctx.Err() != nil || errors.Is(err, errBroken) || errors.Is(err, navvy.ErrUnavailable)
}

// accepted begins the answer of a job that is durable.
func (e *exchange) accepted(id navvy.JobID, existed bool, media string) {
	status := http.StatusCreated
	if existed {
		status = http.StatusOK
	}
	e.w.Header().Set("Location", Prefix+"jobs/"+string(id))
	e.begin(status, media)
}

func acceptedLine(id navvy.JobID, existed bool) []byte {
	return marshal(&navvyv1.Accepted{Id: string(id), Existed: existed})
}

// until gives inputs as next does, until the server ends the submission with an error,
// as when the caller's token is revoked: whoever waits for the next one is told. With
// duplex, so is the caller of what is durable. over is closed when that is done, some
// time after sub has ended.
func (e *exchange) until(sub *client.Submission, next source) (_ source, over <-chan struct{}) {
	var mu sync.Mutex
	var done bool // nobody waits any more
	var why error
	ended := make(chan struct{})
	go func() { // until sub is closed
		defer close(ended)
		last := client.Taken{}
		for taken, err := range sub.Taken(e.ctx) {
			if e.duplex {
				e.tell(last, taken)
				last = taken
			}
			mu.Lock()
			if err != nil && !done {
				why = err
				e.stopReading()
			}
			mu.Unlock()
		}
	}()
	return func() ([]byte, error) {
		input, err := next()
		if err == nil {
			return input, nil
		}
		mu.Lock()
		defer mu.Unlock()
		if done = true; why != nil {
			err = why
		}
		return nil, err
	}, ended
}

// sendAll sends inputs until there are no more.
func sendAll(sub *client.Submission, next source, idle func() bool) error {
	var piece [][]byte
	size := 0
	for {
		input, err := next()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err == nil {
			piece = append(piece, input)
			size += len(input)
		}
		if len(piece) > 0 && (err != nil || len(piece) == pieceInputs || size >= pieceBytes || idle()) {
			if err := sub.Send(piece); err != nil {
				return err
			}
			piece, size = nil, 0
		}
		if err != nil {
			return sub.Seal()
		}
	}
}
