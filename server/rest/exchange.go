package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
)

// Media types.
const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
	typeBytes  = "application/octet-stream"
	typeLines  = "application/x-navvy-lines"
)

// maxBody bounds the body of a call, in bytes, but for inputs and values.
const maxBody = 1 << 20

// maxFunction bounds the body that has a function, whose code may be in base 64.
const maxFunction = 2 << 20

// maxSend bounds the body that has messages to send.
const maxSend = 16 << 20

// restTime is how long what is left of the body of a call that has failed may take to
// come: net/http reads a good part of it before it answers.
const restTime = 5 * time.Second

// exchange is one call and its answer.
type exchange struct {
	*Handler
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	route   *route
	vars    map[string]string
	ctx     context.Context //nolint:containedctx // of the call, with who makes it
	status  int             // of the answer, once it has begun
	media   string          // likewise
	duplex  bool            // the answer may go out while the body comes

	reading sync.Mutex // guards what reading the body has for a deadline
	unread  bool       // nothing of it is read any more
}

// maxDrained bounds what is read of the body of a call that has failed.
const maxDrained = 256 << 10

// drain sends the answer, and reads what is under way: a connection that is closed with
// bytes unread may lose the answer to its client. Without duplex net/http does it.
func (e *exchange) drain() {
	if e.control.Flush() == nil {
		_, _ = io.CopyN(io.Discard, e.r.Body, maxDrained) // the answer is out, whatever comes
	}
}

// usual makes the route's call.
func (e *exchange) usual() error {
	req, err := e.request()
	if err != nil {
		return err
	}
	if e.route.desc.IsStreamingServer() {
		return e.stream(req, func(m proto.Message) []byte { return marshal(m) })
	}
	resp := e.route.response()
	if err := e.invoke(req, resp); err != nil {
		return err
	}
	e.answer(http.StatusOK, typeJSON, marshal(resp))
	return nil
}

// nothing offers no field.
func nothing(protoreflect.FieldDescriptor) bool { return false }

func (e *exchange) invoke(req, resp proto.Message) error {
	return api.FromWire(e.conn.Invoke(e.ctx, e.route.fullMethod(), req, resp))
}

// request makes the call's message of path, query and body.
func (e *exchange) request() (proto.Message, error) {
	req, r := e.route.request(), e.route
	if err := e.fillPath(req); err != nil {
		return nil, err
	}
	query, offers := e.r.URL.Query(), r.offers
	if r.body {
		if err := e.fillBody(req, offers); err != nil {
			return nil, err
		}
		offers = nothing
	}
	if err := fillQuery(req.ProtoReflect(), query, offers); err != nil {
		return nil, err
	}
	if r.preset != nil {
		r.preset(req)
	}
	return req, nil
}

// fillPath sets the fields that the path names.
func (e *exchange) fillPath(req proto.Message) error {
	m := req.ProtoReflect()
	for name, text := range e.vars {
		f := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		if f == nil {
			continue // a route that serves itself
		}
		if err := setField(m, f, text, name); err != nil {
			return err
		}
	}
	return nil
}

// fillBody sets the fields that the body gives: a JSON object, or nothing.
func (e *exchange) fillBody(req proto.Message, offers func(protoreflect.FieldDescriptor) bool) error {
	body, err := e.body(max(maxBody, e.route.bound))
	if err != nil || len(body) == 0 {
		return err
	}
	if err := e.wantType(typeJSON); err != nil {
		return err
	}
	leave, err := e.enter(e.ctx, len(body))
	if err != nil {
		return err
	}
	defer leave()
	o, err := decodeObject(body)
	if err != nil {
		return err
	}
	return fill(req.ProtoReflect(), o, "", offers)
}

// takeTime lets the call take any time, now that it is known who makes it: the server
// looks whether its caller is still there, which its deadline for strangers would end.
// A body that no route reads goes first. The others' is bounded by whoever reads it.
func (e *exchange) takeTime() error {
	switch {
	case e.r.ContentLength == 0:
		_ = e.control.SetReadDeadline(time.Time{}) // as of body
	case e.r.Method == http.MethodGet || e.r.Method == http.MethodDelete:
		_, err := e.body(maxBody)
		return err
	}
	return nil
}

// body reads a body of a bounded length within the time for it.
func (e *exchange) body(limit int64) ([]byte, error) {
	_ = e.control.SetReadDeadline(time.Now().Add(e.opts.BodyTime)) // what cannot be bounded in time, in a test, need not be
	body, err := io.ReadAll(http.MaxBytesReader(e.w, e.r.Body, limit))
	if err != nil {
		return nil, bodyError(err) // the deadline stays: what is left of the body is read before the answer
	}
	_ = e.control.SetReadDeadline(time.Time{})
	return body, nil
}

// errBroken says that a body broke off: its client has left, most likely.
var errBroken = fmt.Errorf("the body ends early: %w", navvy.ErrInvalid)

// bodyError is what reading the body fails with.
func bodyError(err error) error {
	large, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case err == nil:
		return nil
	case tooLarge:
		return &httpError{http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the body has more than %d bytes", large.Limit)}
	default:
		return fmt.Errorf("%w: %w", errBroken, err)
	}
}

// wantType refuses a body of another type than these.
func (e *exchange) wantType(types ...string) error {
	header := e.r.Header.Get("Content-Type")
	media, params, err := mime.ParseMediaType(header)
	for _, want := range types {
		if err == nil && media == want && (params["charset"] == "" || strings.EqualFold(params["charset"], "utf-8")) {
			e.media = media
			return nil
		}
	}
	return &httpError{http.StatusUnsupportedMediaType, "unsupported_media_type", fmt.Sprintf("Content-Type %q: want %s", header, strings.Join(types, " or "))}
}

// answer writes a whole answer.
func (e *exchange) answer(status int, media string, body []byte) {
	if e.status == 0 && e.r.Method != http.MethodHead {
		e.w.Header().Set("Content-Length", strconv.Itoa(len(body))) // who has all of it need not wait for more
	}
	e.begin(status, media)
	_ = e.write(body) // a caller who has gone is told nothing
}

// begin writes the head of the answer, once.
func (e *exchange) begin(status int, media string) {
	if e.status != 0 {
		return
	}
	e.status, e.media = status, media
	e.w.Header().Set("Content-Type", media)
	e.w.WriteHeader(status)
}

// write writes a part of the answer, for a client who reads it.
func (e *exchange) write(p []byte) error {
	_ = e.control.SetWriteDeadline(time.Now().Add(e.opts.WriteTime)) // as of body
	_, err := e.w.Write(p)                                           //nolint:gosec // JSON, or bytes that say they are no page, and nosniff
	return err
}

// push writes a part of the answer that somebody waits for.
func (e *exchange) push(p []byte) error {
	if err := e.write(p); err != nil {
		return err
	}
	return e.control.Flush()
}

// end ends the answer: with an error, the caller is told of it in the head, or, behind
// what it has already, by one more line and an end that is none.
func (e *exchange) end(err error) {
	if err == nil {
		return
	}
	status, body := describe(err)
	if status >= http.StatusInternalServerError && !errors.Is(err, navvy.ErrUnavailable) {
		e.opts.Logger.Debug("call over HTTP failed", "method", e.r.Method, "path", e.r.URL.Path, "error", err)
	}
	if e.status == 0 {
		_ = e.control.SetReadDeadline(time.Now().Add(restTime)) // as of body
		e.answer(status, typeJSON, body)
		if e.duplex {
			e.drain()
		}
		return
	}
	if e.media == typeNDJSON {
		_ = e.push(body)
	}
	panic(http.ErrAbortHandler) // what the caller has is not all
}

// stream makes a call that is answered by a stream, and writes each message as one or
// several lines.
func (e *exchange) stream(req proto.Message, lines func(proto.Message) []byte) error {
	return e.each(req, func(m proto.Message) error {
		e.begin(http.StatusOK, typeNDJSON)
		return e.push(lines(m))
	})
}

// each makes a call that is answered by a stream, and hands on each message, until fn
// fails. An answer without a message is one without a line.
func (e *exchange) each(req proto.Message, fn func(proto.Message) error) error {
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	stream, err := e.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, e.route.fullMethod())
	if err == nil {
		err = stream.SendMsg(req)
	}
	if err == nil || errors.Is(err, io.EOF) { // the reason is what is received
		err = stream.CloseSend()
	}
	for err == nil {
		m := e.route.response()
		if err = stream.RecvMsg(m); err == nil {
			if err := fn(m); err != nil {
				return err
			}
		}
	}
	if errors.Is(err, io.EOF) {
		e.begin(http.StatusOK, typeNDJSON)
		return nil
	}
	return api.FromWire(err)
}
