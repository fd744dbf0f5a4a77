package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// Prefix is what the paths of all routes begin with.
const Prefix = "/v1/"

// Handler serves the API. It may be used at once.
type Handler struct {
	conn     grpc.ClientConnInterface
	client   *client.Client
	identify Identify
	opts     Options
	foreign  *http.CrossOriginProtection
	decoding *semaphore.Weighted // bytes of JSON
	coming   *semaphore.Weighted // bytes of large lines that are not there as a whole

	mu      sync.Mutex
	calling map[callerKey]int // how many connections of calls each has
}

// Bounds of the JSON that is decoded at once, in bytes: decoded it takes many times as
// much. What is small does not count.
const (
	maxDecoding = 2 << 20
	smallJSON   = 64 << 10
)

// enter waits until JSON may be decoded. leave must be called when the message is made of it.
func (h *Handler) enter(ctx context.Context, size int) (leave func(), err error) {
	if size <= smallJSON {
		return func() {}, nil
	}
	n := int64(min(size, maxDecoding))
	return func() { h.decoding.Release(n) }, h.decoding.Acquire(ctx, n)
}

// Identify tells who makes a call: never nobody without an error. One that wraps
// navvy.ErrDenied says that the caller has to say who it is.
type Identify func(*http.Request) (auth.Identity, error)

// Options are the settings of a Handler.
type Options struct {
	// Logger takes what goes wrong while an answer is written. Defaults to one that discards.
	Logger *slog.Logger
	// BodyTime is how long the body of a call may take to come, but for inputs and
	// values. Defaults to 30 s.
	BodyTime time.Duration
	// WriteTime is how long a client may take to read what is written at once. Defaults to 5 minutes.
	WriteTime time.Duration
}

// New makes a handler that calls over conn, a connection in this process to services
// behind a gate, as whoever identify names.
func New(conn grpc.ClientConnInterface, identify Identify, o *Options) *Handler {
	h := &Handler{
		conn: conn, client: client.New(conn), identify: identify, foreign: http.NewCrossOriginProtection(),
		decoding: semaphore.NewWeighted(maxDecoding), coming: semaphore.NewWeighted(maxComing), calling: map[callerKey]int{},
	}
	if o != nil {
		h.opts = *o
	}
	if h.opts.Logger == nil {
		h.opts.Logger = slog.New(slog.DiscardHandler)
	}
	if h.opts.BodyTime <= 0 {
		h.opts.BodyTime = 30 * time.Second
	}
	if h.opts.WriteTime <= 0 {
		h.opts.WriteTime = 5 * time.Minute
	}
	return h
}

// ServeHTTP serves one call.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := &exchange{Handler: h, w: w, r: r, control: http.NewResponseController(w)}
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	if r.URL.Path == documentPath && r.Method == http.MethodGet {
		e.answer(http.StatusOK, typeJSON, Document())
		return
	}
	var allowed []string
	e.route, e.vars, allowed = find(r.Method, r.URL.EscapedPath())
	switch {
	case e.route != nil:
		e.end(e.run())
	case len(allowed) > 0:
		header.Set("Allow", strings.Join(allowed, ", "))
		e.end(&httpError{http.StatusMethodNotAllowed, "method_not_allowed", fmt.Sprintf("%s %s: want %s", r.Method, r.URL.Path, strings.Join(allowed, " or "))})
	default:
		e.end(fmt.Errorf("%s %s: there is no such route; %s has all: %w", r.Method, r.URL.Path, documentPath, navvy.ErrNotFound))
	}
}

// errGone ends what a caller whose certificate or token is over still waits for.
var errGone = fmt.Errorf("what this call was made with has expired: %w", navvy.ErrDenied)

// run serves the route.
func (e *exchange) run() error {
	if e.route.duplex { // otherwise who is refused would be told when the body has ended
		if err := e.control.EnableFullDuplex(); err != nil {
			return fmt.Errorf("%s: this connection does not carry both directions at once: %w: %w", e.route.path, err, navvy.ErrUnsupported)
		}
		e.duplex = true
	}
	if err := e.foreign.Check(e.r); err != nil {
		return fmt.Errorf("pages of another origin have no access: %w", navvy.ErrDenied)
	}
	me, err := e.identify(e.r)
	switch {
	case errors.Is(err, navvy.ErrDenied):
		e.w.Header().Set("WWW-Authenticate", `Bearer realm="navvy"`)
		return &httpError{http.StatusUnauthorized, "unauthenticated", err.Error()}
	case err != nil:
		return err
	case me == auth.Identity{}: // the services would take nobody for this process itself
		return fmt.Errorf("nobody knows who calls: %w", navvy.ErrDenied)
	}
	ctx := auth.With(e.r.Context(), me)
	if !me.Expires.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, me.Expires, errGone)
		defer cancel()
	}
	e.ctx = ctx
	if err := e.takeTime(); err != nil {
		return err
	}
	if e.route.serve != nil {
		err = e.route.serve(e)
	} else {
		err = e.usual()
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause // it has expired, or the server leaves
	}
	return err
}

// httpError is an error of HTTP, not of the API behind it.
type httpError struct {
	status int
	code   string
	text   string
}

func (e *httpError) Error() string { return e.text }

// httpErrors are the codes of those, which api.ErrorCode does not give.
var httpErrors = map[string]int{
	"unauthenticated":        http.StatusUnauthorized,
	"method_not_allowed":     http.StatusMethodNotAllowed,
	"precondition_failed":    http.StatusPreconditionFailed,
	"range_not_satisfiable":  http.StatusRequestedRangeNotSatisfiable,
	"too_large":              http.StatusRequestEntityTooLarge,
	"unsupported_media_type": http.StatusUnsupportedMediaType,
}

// describe turns an error into what the caller is told.
func describe(err error) (status int, body []byte) {
	status, code, text := api.HTTPStatus(err), api.ErrorCode(err), err.Error()
	if he, ok := errors.AsType[*httpError](err); ok {
		status, code, text = he.status, he.code, he.text
	}
	body = appendText([]byte(`{"error":{"code":`), code)
	body = appendText(append(body, `,"message":`...), withoutReason(text))
	return status, append(body, "}}\n"...)
}

// withoutReason cuts what a message ends with and its code says.
func withoutReason(text string) string {
	for _, sentinel := range []error{navvy.ErrInvalid, navvy.ErrUnavailable, navvy.ErrConflict, navvy.ErrDenied, navvy.ErrUnsupported, navvy.ErrExhausted} {
		text = strings.TrimSuffix(text, ": "+sentinel.Error())
	}
	return text
}

// Error answers with an error, as the API does: for what comes before it.
func Error(w http.ResponseWriter, err error) {
	status, body := describe(err)
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // who asked has gone
}

// unescape undoes the percent-encoding of a path.
func unescape(text string) (string, error) { return url.PathUnescape(text) }
