package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/server/auth"
)

// Bounds of calls: how many go on together, how many connections one caller may have, and
// how long calls that came before a connection broke may take to become durable.
const (
	maxPieceCalls   = 512
	maxCalling      = 64
	maxDurableDelay = 10 * time.Second
)

// callerKey is whoever has connections of calls.
type callerKey struct {
	name  string
	local bool
}

// enterCalls counts a connection of calls. leave must be called when it has ended.
func (e *exchange) enterCalls() (leave func(), err error) {
	me := auth.From(e.ctx)
	key := callerKey{me.Name, me.Local}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.calling[key] >= maxCalling {
		return nil, fmt.Errorf("%s has %d connections of calls; any number of calls may share one: %w", me.Name, maxCalling, navvy.ErrUnavailable)
	}
	e.calling[key]++
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.calling[key]--; e.calling[key] == 0 {
			delete(e.calling, key)
		}
	}, nil
}

// errTemplate is what a call without a job before it is refused with.
var errTemplate = invalid("there is no job for this call: the first line is one, as in {\"job\": {\"spec\": …}}")

// runCalls makes calls as their lines come, and answers each as a line when its answer is
// there, on one connection in both directions. Their jobs go on when the caller leaves.
func (e *exchange) runCalls() error {
	if err := e.wantType(typeNDJSON); err != nil {
		return err
	}
	if err := fillQuery((&navvyv1.RunRequest{}).ProtoReflect(), e.r.URL.Query(), nothing); err != nil {
		return err
	}
	leave, err := e.enterCalls()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(e.ctx)) // see calls.leave
	defer cancel(nil)
	stream, err := navvyv1.NewJobsClient(e.conn).Run(ctx)
	if err != nil {
		return api.FromWire(err)
	}
	c := &calls{
		exchange: e, stream: stream, cancel: cancel, lines: e.inLines(), templateError: errTemplate,
		durable: make(chan struct{}), ended: make(chan struct{}), left: make(chan struct{}),
	}
	defer c.lines.done()
	e.begin(http.StatusOK, typeNDJSON)
	if err := e.control.Flush(); err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	c.run()
	return context.Cause(ctx)
}

// calls are those of one connection.
type calls struct {
	*exchange
	stream grpc.BidiStreamingClient[navvyv1.RunRequest, navvyv1.RunResponse]
	cancel context.CancelCauseFunc // ends the stream
	lines  *inLines

	job           *navvyv1.Job // the template, without its spec
	spec          *navvyv1.Spec
	templateError error // why there is none

	durable chan struct{} // closed when all calls are
	ended   chan struct{} // closed when no more answers come
	leaving sync.Once
	left    chan struct{} // closed when nobody takes them any more
	why     error         // good then

	writing sync.Mutex
}

// run takes calls and writes answers until all is answered, or one of the two fails:
// why, cancel is told.
func (c *calls) run() {
	stop := context.AfterFunc(c.ctx, func() { c.leave(context.Cause(c.ctx)) })
	defer stop()
	taken := make(chan struct{})
	go func() {
		defer close(taken)
		err := c.take()
		if err == nil {
			select {
			case <-c.ended:
				return
			case <-c.left:
				err = c.why
			}
		}
		c.settle(err)
	}()
	err := c.answerAll()
	close(c.ended)
	if err != nil {
		c.cancel(err)
		c.stopReading() // who waits for lines must not stay behind
	}
	<-taken
}

// leave ends a connection whose caller has gone, or may not call any more. What it has
// read whole becomes durable first, within bounds: the caller has sent it.
func (c *calls) leave(err error) {
	c.leaving.Do(func() {
		c.why = err
		close(c.left)
		c.stopReading()
		time.AfterFunc(maxDurableDelay, func() { c.cancel(err) }) // which does nothing when all is over
	})
}

// settle waits until the calls that were handed on are durable, and ends the stream.
func (c *calls) settle(err error) {
	c.leave(err)
	_ = c.stream.CloseSend() // it always succeeds
	select {
	case <-c.durable:
	case <-c.ended:
	}
	c.cancel(err)
}

// take reads lines and hands calls on, those that are there together, until no more come.
func (c *calls) take() error {
	for {
		m, err := c.piece()
		if len(m.Calls) > 0 {
			if err := c.stream.Send(m); err != nil {
				return nil // whoever reads answers learns why
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return c.stream.CloseSend()
		case err != nil:
			return err
		}
	}
}

// piece reads calls until the next one may take its time.
func (c *calls) piece() (*navvyv1.RunRequest, error) {
	m := &navvyv1.RunRequest{}
	for size := 0; len(m.Calls) < maxPieceCalls && size < pieceBytes; {
		line, err := c.lines.next(maxLine)
		if bad, ok := errors.AsType[*badLine](err); ok {
			return m, c.bad(bad)
		}
		if err != nil {
			return m, err
		}
		size += len(line)
		call, err := c.line(line)
		if err != nil {
			return m, err
		}
		if call != nil {
			m.Calls = append(m.Calls, call)
		}
		if !c.lines.has() {
			break
		}
	}
	return m, nil
}

// line reads one line: a call, or nil for none. A call that is wrong is refused, and so
// are those of a job that is; an error ends all of them.
func (c *calls) line(text []byte) (*navvyv1.RunCall, error) {
	if text = bytes.TrimSpace(text); len(text) == 0 {
		return nil, nil
	}
	leave, err := c.enter(c.ctx, len(text))
	if err != nil {
		return nil, err
	}
	defer leave()
	o, input, err := decodeBeside(text, inputField)
	if err != nil {
		return nil, err
	}
	if job, ok := o["job"]; ok && len(o) == 1 && input == nil {
		c.template(job)
		return nil, nil
	}
	number, err := readNumber(protoreflect.Uint64Kind, o["number"], "number")
	if err != nil {
		return nil, fmt.Errorf("a line is {\"job\": …} or a call, as in {\"number\": 1, \"input\": …}: %w", err)
	}
	call := &navvyv1.RunCall{Number: number.Uint()}
	if err = c.fillCall(call, o); err == nil && input != nil {
		call.Input, err = readInput(input, inputField)
	}
	if err != nil {
		return nil, c.refuse(call.GetNumber(), err)
	}
	return call, nil
}

// fillCall makes a call of the template, and of what its line has beside the input.
func (c *calls) fillCall(call *navvyv1.RunCall, o object) error {
	if c.templateError != nil {
		return c.templateError
	}
	call.Job = proto.CloneOf(c.job)
	call.Job.Spec = c.spec // which nobody changes
	for name, v := range o {
		good := true
		switch name {
		case "number":
		case "idempotency_key":
			call.Job.IdempotencyKey, good = v.(string)
		case "notify":
			call.Notify, good = v.(bool)
		default:
			return invalid("unknown field %s of a call; there is number, input, idempotency_key, notify", name)
		}
		if !good {
			return invalid("%s: want a string, or true or false for notify", name)
		}
	}
	return nil
}

// template takes the job of the calls that follow.
func (c *calls) template(v any) {
	c.job, c.spec = nil, nil
	o, ok := v.(object)
	if !ok {
		c.templateError = invalid("job: want an object")
		return
	}
	job, err := c.newJob(o)
	if err == nil && job.GetIdempotencyKey() != "" {
		err = invalid("idempotency_key: each call has its own; leave it out of the job")
	}
	if c.templateError = err; err == nil {
		c.spec, job.Spec = job.GetSpec(), nil
		c.job = job
	}
}

// refuse answers a call that does not reach the services.
func (c *calls) refuse(number uint64, err error) error {
	_, body := describe(err)
	b := strconv.AppendUint([]byte(`{"number":`), number, 10)
	return c.put(append(append(b, ','), body[1:]...))
}

// bad refuses a line that is not there as a whole: by the number of its call, if that
// came first. The others go on.
func (c *calls) bad(line *badLine) error {
	n, known, job := line.number()
	switch {
	case job:
		c.templateError = line.err // for each call behind it
		return nil
	case known:
		return c.refuse(n, line.err)
	default:
		_, body := describe(line.err)
		return c.put(body)
	}
}

// put writes lines that somebody waits for.
func (c *calls) put(lines []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.push(lines); err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	return nil
}

// answerAll writes answers until there are no more.
func (c *calls) answerAll() error {
	for {
		m, err := c.stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return api.FromWire(err)
		}
		if len(m.GetAnswers()) == 0 {
			close(c.durable)
			continue
		}
		var b []byte
		for _, a := range m.GetAnswers() {
			b = appendAnswer(b, a)
		}
		select {
		case <-c.left:
			continue
		default:
		}
		if err := c.put(b); err != nil {
			c.leave(err)
		}
	}
}

// appendAnswer appends the line of an answer.
func appendAnswer(b []byte, a *navvyv1.RunAnswer) []byte {
	b = strconv.AppendUint(append(b, `{"number":`...), a.GetNumber(), 10)
	if a.GetRefused() != nil {
		_, body := describe(api.AnswerError(a))
		return append(append(b, ','), body[1:]...)
	}
	b = appendText(append(b, `,"id":`...), a.GetId())
	switch {
	case a.GetAccepted():
		b = append(b, `,"accepted":true`...)
	case a.GetResult() != nil:
		b = appendMessage(append(b, `,"result":`...), a.GetResult().ProtoReflect())
	default:
		b = appendMessage(append(b, `,"status":`...), a.GetStatus().ProtoReflect())
	}
	return append(b, "}\n"...)
}
