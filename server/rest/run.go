package rest

import (
	"errors"
	"net/http"

	"google.golang.org/protobuf/proto"

	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// inputField is the one input of a call of run.
const inputField = "input"

// runTask makes a job of one task, and answers with its result. The job goes on when the
// caller leaves.
func (e *exchange) runTask() error {
	if err := e.wantType(typeJSON); err != nil {
		return err
	}
	body, err := e.body(maxSubmit)
	if err != nil {
		return err
	}
	call, err := e.runCall(body)
	if err != nil {
		return err
	}
	return e.call(call)
}

// runCall reads the object of a job, with its input.
func (e *exchange) runCall(text []byte) (*navvyv1.RunCall, error) {
	leave, err := e.enter(e.ctx, len(text))
	if err != nil {
		return nil, err
	}
	defer leave()
	o, input, err := decodeBeside(text, inputField)
	if err != nil {
		return nil, err
	}
	call := &navvyv1.RunCall{}
	if input != nil {
		if call.Input, err = readInput(input, inputField); err != nil {
			return nil, err
		}
	}
	call.Job, err = e.newJob(o)
	return call, err
}

func (e *exchange) call(call *navvyv1.RunCall) error {
	err := e.each(&navvyv1.RunRequest{Calls: []*navvyv1.RunCall{call}}, func(m proto.Message) error {
		answers := m.(*navvyv1.RunResponse).GetAnswers()
		if len(answers) == 0 {
			return nil
		}
		a := answers[0]
		if err := api.AnswerError(a); err != nil {
			return err
		}
		e.w.Header().Set("Location", Prefix+"jobs/"+a.GetId())
		e.answer(http.StatusOK, typeJSON, marshal(a.GetResult()))
		return errEnough
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}
