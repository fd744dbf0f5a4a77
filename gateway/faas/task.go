package faas

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/gateway/jobid"
	"github.com/navvy-run/navvy/output"
)

// Fields of the requests.
const (
	fieldName     = "name"
	fieldFunction = "function_id"
	fieldPayload  = "payload"
)

// What there is to say about a task.
const (
	statusQueued    = "QUEUED"
	statusRunning   = "RUNNING"
	statusCompleted = "COMPLETED"
	statusFailed    = "FAILED"
)

// statusOf is a state in that system's words.
func statusOf(s navvy.State) string {
	switch s {
	case navvy.Running:
		return statusRunning
	case navvy.Succeeded:
		return statusCompleted
	case navvy.Failed, navvy.Stopped:
		return statusFailed
	default:
		return statusQueued
	}
}

// register makes a function known.
func (e *exchange) register() error {
	values, err := e.fields(fieldName, fieldPayload)
	if err != nil {
		return err
	}
	code, err := decodePayload(values[1])
	if err != nil {
		return err
	}
	if len(code) > navvy.MaxFunctionCode {
		return errLongCode
	}
	f, err := e.client.Register(e.ctx, &navvy.FunctionVersion{Name: functionName(values[0]), Form: navvy.FormPickle, Code: code})
	if err != nil {
		return err
	}
	e.answer(http.StatusCreated, map[string]string{"function_id": f.ID})
	return nil
}

// execute calls a function. It answers when the call is durable.
func (e *exchange) execute() error {
	values, err := e.fields(fieldFunction, fieldPayload)
	if err != nil {
		return err
	}
	input, err := decodePayload(values[1])
	if err != nil {
		return err
	}
	job := navvy.Job{Spec: navvy.Spec{Function: &navvy.Function{ID: values[0], Encoding: navvy.EncodingPickle}}}
	id, err := e.client.Begin(e.ctx, job, input)
	if errors.Is(err, navvy.ErrNotFound) {
		return &httpError{http.StatusNotFound, "there is no function " + values[0]}
	} else if err != nil {
		return err
	}
	e.answer(http.StatusCreated, map[string]string{"task_id": jobid.FaaS.UUID(id)})
	return nil
}

// job is the job of the path's task, whose UUID becomes the usual form of it.
func (e *exchange) job() (navvy.JobID, error) {
	text, ok := uuid(e.task)
	if !ok {
		return "", fieldErrors{noUUID.at("path", "task_id")}
	}
	e.task = text
	id, err := jobid.FaaS.Job(text)
	if err != nil {
		return "", e.noTask()
	}
	return id, nil
}

func (e *exchange) noTask() error {
	return &httpError{http.StatusNotFound, "there is no task " + e.task}
}

// found tells of a task that is not there under the name that the caller has for it.
func (e *exchange) found(err error) error {
	if errors.Is(err, navvy.ErrNotFound) {
		return e.noTask()
	}
	return err
}

// status tells where a task stands, at once.
func (e *exchange) status() error {
	id, err := e.job()
	if err != nil {
		return err
	}
	job, err := e.client.Get(e.ctx, id)
	if err != nil {
		return e.found(err)
	}
	e.write(http.StatusOK, append(e.head(statusOf(job.Status.State())), '}'))
	return nil
}

// head begins the answer about a task.
func (e *exchange) head(status string) []byte {
	return append(append(append([]byte(`{"task_id":"`), e.task...), `","status":"`+status...), '"')
}

// result gives the result of a task, for which it waits a moment.
func (e *exchange) result() error {
	id, err := e.job()
	if err != nil {
		return err
	}
	for {
		a, err := e.await(id)
		if err != nil {
			return e.found(err)
		}
		if a != nil {
			return e.value(a)
		}
		job, err := e.client.Get(e.ctx, id)
		if err != nil {
			return e.found(err)
		}
		switch state := job.Status.State(); state {
		case navvy.Succeeded, navvy.Failed: // since the wait was over
			continue
		case navvy.Stopped:
			e.whole(statusFailed, stopped(job.Status.Why))
		default:
			e.whole(statusOf(state), nil)
		}
		return nil
	}
}

// await waits a moment for the answer of a task; nil if there is none.
func (e *exchange) await(id navvy.JobID) (*client.Answer, error) {
	ctx, cancel := context.WithTimeout(e.ctx, e.opts.Wait)
	defer cancel()
	for a, err := range e.client.Results(ctx, id, client.ResultsOptions{Follow: true, Limit: 1}) {
		if err != nil && ctx.Err() != nil && e.ctx.Err() == nil {
			return nil, nil //nolint:nilnil // there is none, as it says
		}
		return &a, err
	}
	return nil, nil //nolint:nilnil // as above
}

// value answers with what a task has returned, or raised.
func (e *exchange) value(a *client.Answer) error {
	status := statusOf(a.State)
	if !a.Result.HasValue() {
		e.whole(status, failure(&a.Attempt))
		return nil
	}
	if a.Output.Logged {
		return e.long(status, a)
	}
	value, err := e.client.Read(e.ctx, a, output.Value)
	if err != nil {
		return err
	}
	e.whole(status, orElse(value, a))
	return nil
}

// orElse is the value, or what stands for one where there is none.
func orElse(value []byte, a *client.Answer) []byte {
	switch {
	case len(value) > 0:
		return value
	case a.State == navvy.Succeeded:
		return []byte(nothing)
	default:
		return failure(&a.Attempt)
	}
}

// whole answers with a result that is in memory.
func (e *exchange) whole(status string, value []byte) {
	body := make([]byte, 0, 128+len(value)*3/2)
	body = append(append(body, e.head(status)...), `,"result":"`...)
	e.write(http.StatusOK, append(appendPayload(body, value), `"}`...))
}

// long answers with a value that lies in a log, as it is read.
func (e *exchange) long(status string, a *client.Answer) error {
	empty := true
	w := payloadWriter{write: func(p []byte) error {
		_ = e.control.SetWriteDeadline(time.Now().Add(e.opts.WriteTime)) // as of end
		_, err := e.w.Write(p)
		return err
	}}
	begin := func() error {
		empty, e.begun = false, true
		e.w.Header().Set("Content-Type", typeJSON)
		e.w.WriteHeader(http.StatusOK)
		return w.write(append(e.head(status), `,"result":"`...))
	}
	err := e.client.Output(e.ctx, a.Task, client.OutputOptions{Attempt: a.ID}, client.OutputSink{Write: func(s output.Stream, p []byte) error {
		if s != output.Value {
			return nil
		}
		if empty {
			if err := begin(); err != nil {
				return err
			}
		}
		return w.add(p)
	}})
	if err != nil {
		return err
	}
	if empty {
		e.whole(status, orElse(nil, a))
		return nil
	}
	if err := w.close(); err != nil {
		return err
	}
	return w.write([]byte(`"}`))
}
