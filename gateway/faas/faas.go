package faas

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// Handler serves the contract. It may be used at once.
type Handler struct {
	client   *client.Client
	identify Identify
	opts     Options
	foreign  *http.CrossOriginProtection
	reading  *semaphore.Weighted // bytes of large bodies
}

// Identify tells who makes a call: never nobody without an error.
type Identify func(*http.Request) (auth.Identity, error)

// Options are the settings of a Handler.
type Options struct {
	// Logger takes what goes wrong while an answer is written. Defaults to one that discards.
	Logger *slog.Logger
	// Wait is how long the result of a task that has not ended is waited for before the
	// answer is that there is none yet: clients ask again and again. Defaults to 40 ms.
	Wait time.Duration
	// BodyTime is how long the body of a call may take to come. Defaults to 30 s.
	BodyTime time.Duration
	// WriteTime is how long a client may take to read what is written at once. Defaults to 5 minutes.
	WriteTime time.Duration
}

// New makes a handler that calls over conn, a connection in this process to services
// behind a gate, as whoever identify names.
func New(conn grpc.ClientConnInterface, identify Identify, o *Options) *Handler {
	h := &Handler{client: client.New(conn), identify: identify, foreign: http.NewCrossOriginProtection(), reading: semaphore.NewWeighted(maxReading)}
	if o != nil {
		h.opts = *o
	}
	if h.opts.Logger == nil {
		h.opts.Logger = slog.New(slog.DiscardHandler)
	}
	if h.opts.Wait <= 0 {
		h.opts.Wait = 40 * time.Millisecond
	}
	if h.opts.BodyTime <= 0 {
		h.opts.BodyTime = 30 * time.Second
	}
	if h.opts.WriteTime <= 0 {
		h.opts.WriteTime = 5 * time.Minute
	}
	return h
}

// exchange is one call and its answer.
type exchange struct {
	*Handler
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	ctx     context.Context //nolint:containedctx // of the call, with who makes it
	task    string          // of the path
	begun   bool            // something was answered
	held    int64           // bytes of the body that are reserved of reading
}

// route is one of the four calls.
type route struct {
	method string
	task   bool // the path goes on with one
	serve  func(*exchange) error
}

var routes = map[string]route{
	"register_function": {http.MethodPost, false, (*exchange).register},
	"execute_function":  {http.MethodPost, false, (*exchange).execute},
	"status":            {http.MethodGet, true, (*exchange).status},
	"result":            {http.MethodGet, true, (*exchange).result},
}

// find gives the route of a path without a slash at its end, and its task.
func find(path string) (rt route, task string, ok bool) {
	name, task, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	rt, ok = routes[name]
	return rt, task, ok && rt.task == (task != "") && !strings.Contains(task, "/")
}

// ServeHTTP serves one call.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := &exchange{Handler: h, w: w, r: r, control: http.NewResponseController(w)}
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	defer e.leave()
	e.end(e.run())
}

// errGone ends what a caller whose certificate is over still waits for.
var errGone = fmt.Errorf("what this call was made with has expired: %w", navvy.ErrDenied)

// run finds out who calls, and what.
func (e *exchange) run() error {
	if err := e.foreign.Check(e.r); err != nil {
		return fmt.Errorf("pages of another origin have no access: %w", navvy.ErrDenied)
	}
	me, err := e.identify(e.r)
	switch {
	case err != nil:
		return err
	case me == auth.Identity{}: // the services would take nobody for this process itself
		return fmt.Errorf("nobody knows who calls: %w", navvy.ErrDenied)
	}
	e.ctx = auth.With(e.r.Context(), me)
	if !me.Expires.IsZero() {
		var cancel context.CancelFunc
		e.ctx, cancel = context.WithDeadlineCause(e.ctx, me.Expires, errGone)
		defer cancel()
	}
	path := strings.TrimSuffix(e.r.URL.Path, "/")
	rt, task, ok := find(path)
	switch {
	case !ok:
		return &httpError{http.StatusNotFound, "Not Found"}
	case path != e.r.URL.Path:
		return e.redirect()
	case e.r.Method != rt.method:
		e.w.Header().Set("Allow", rt.method)
		return &httpError{http.StatusMethodNotAllowed, "Method Not Allowed"}
	}
	e.task = task
	if rt.method == http.MethodGet {
		if err := e.skipBody(maxBody); err != nil {
			return err
		}
	}
	err = rt.serve(e)
	if cause := context.Cause(e.ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause // it has expired, or the server leaves
	}
	return err
}

// redirect sends a client that has put a slash behind the path to the path without it,
// as FastAPI does; it asks again with the same method and body. The body that has come
// with it is read first: whoever sends one is told nothing before all of it is gone.
func (e *exchange) redirect() error {
	if err := e.skipBody(maxBody); err != nil {
		return err
	}
	to := strings.TrimSuffix(e.r.URL.EscapedPath(), "/")
	if e.r.URL.RawQuery != "" {
		to += "?" + e.r.URL.RawQuery
	}
	e.w.Header().Set("Location", to)
	e.begun = true
	e.w.WriteHeader(http.StatusTemporaryRedirect)
	return nil
}
