package mstc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/server/auth"
)

// Paths of the contract.
const (
	pathHello   = "/mstc/worker"
	pathExecute = "/mstc/worker/execute"
)

// maxCalls is how many calls of REST wait for their jobs at once.
const maxCalls = 1024

// Identify tells who makes a call: never nobody without an error.
type Identify func(*http.Request) (auth.Identity, error)

// Handler serves the contract's REST. What a call asks for is a job of whoever identify
// names. The job goes on when its caller leaves, or the server does.
func (g *Gateway) Handler(identify Identify) http.Handler {
	h := &handler{Gateway: g, identify: identify, foreign: http.NewCrossOriginProtection(), room: make(chan struct{}, maxCalls)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathHello, func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "hello") })
	mux.HandleFunc("POST "+pathExecute, h.execute)
	return mux
}

type handler struct {
	*Gateway
	identify Identify
	foreign  *http.CrossOriginProtection
	room     chan struct{}
}

// Error answers a call as the contract does: for what goes wrong before it.
func Error(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Warning", "199 navvy "+quoted(text))
	say(w, status, text)
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) //nolint:gosec // plain text, and said to be; who asked may have gone
}

// quoted is a text as a header has it: one line, of ASCII, and not long.
func quoted(text string) string {
	const most = 500
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case b.Len() > most:
		case r == '"' || r == '\\':
			b.WriteString("\\" + string(r))
		case r < ' ' || r == 0x7f:
			b.WriteByte(' ')
		case r > 0x7f:
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// errGone ends what a caller whose certificate is over still waits for.
var errGone = fmt.Errorf("what this call was made with has expired: %w", navvy.ErrDenied)

// execute does what a call asks for, and answers when it has ended.
func (h *handler) execute(w http.ResponseWriter, r *http.Request) {
	select {
	case h.room <- struct{}{}:
		defer func() { <-h.room }()
	default:
		Error(w, http.StatusInternalServerError, fmt.Sprintf("unavailable: %d calls wait for their jobs, and no more can", maxCalls))
		return
	}
	me, err := h.who(r)
	if err != nil {
		Error(w, http.StatusForbidden, words(err))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody+1))
	if err != nil && len(body) <= maxBody {
		Error(w, http.StatusBadRequest, "Invalid request The body ends early")
		return
	}
	req, err := parse(body)
	if err != nil {
		Error(w, http.StatusBadRequest, refusedAs(err, body).Result)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // it is known who calls: an answer may take its time
	ctx := auth.With(r.Context(), me)
	if !me.Expires.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, me.Expires, errGone)
		defer cancel()
	}
	id, out, err := h.do(ctx, req)
	switch {
	case err != nil:
		Error(w, http.StatusInternalServerError, trouble(err).Result)
	default:
		h.tell(ctx, w, id, out)
	}
}

// tell answers a call whose job has ended. A job whose caller has the whole answer has been
// read by somebody.
func (h *handler) tell(ctx context.Context, w http.ResponseWriter, id navvy.JobID, out *reply) {
	w.Header().Set("Content-Length", strconv.Itoa(len(out.Result))) // the caller need not wait for what is behind it
	if out.ok() {
		say(w, http.StatusOK, out.Result)
	} else {
		Error(w, http.StatusInternalServerError, out.Result)
	}
	if err := http.NewResponseController(w).Flush(); err != nil {
		return // who asked has gone
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
	defer cancel()
	h.markRead(ctx, id)
}

// who finds out who calls.
func (h *handler) who(r *http.Request) (auth.Identity, error) {
	if err := h.foreign.Check(r); err != nil {
		return auth.Identity{}, fmt.Errorf("pages of another origin have no access: %w", navvy.ErrDenied)
	}
	me, err := h.identify(r)
	if err == nil && me == (auth.Identity{}) { // the services would take nobody for this process itself
		err = fmt.Errorf("nobody knows who calls: %w", navvy.ErrDenied)
	}
	return me, err
}

// do has a request done by a job, and waits for that.
func (h *handler) do(ctx context.Context, req *request) (id navvy.JobID, out *reply, err error) {
	job := req.job()
	job.Queue = h.opts.Queue
	if id, err = h.client.Begin(ctx, job, nil); err != nil {
		return "", nil, err
	}
	h.logger.Info("a call of an MSTC client has a job", "job", id, "image", req.Image)
	out, err = h.ended(ctx, req, id)
	switch {
	case errors.Is(err, navvy.ErrNotFound):
		return id, req.replyStopped(id, "somebody has removed it"), nil
	case err != nil:
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return id, nil, fmt.Errorf("job %s goes on, and this call has no answer: %w", id, err)
	}
	return id, out, nil
}
