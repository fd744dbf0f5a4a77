package mstc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// web serves the REST of a gateway whose broker is away.
func (w *world) web() *httptest.Server {
	w.t.Helper()
	w.line.set(true)
	g, _ := w.gateway()
	s := httptest.NewServer(g.Handler(func(r *http.Request) (auth.Identity, error) {
		context.AfterFunc(r.Context(), func() { w.gone.Add(1) })
		switch name := r.Header.Get("Test-Name"); name {
		case "nobody":
			return auth.Identity{}, nil
		case "stranger":
			return auth.Identity{}, fmt.Errorf("not you: %w", navvy.ErrDenied)
		default:
			return auth.Identity{Name: "sue", Role: auth.RoleUser}, nil
		}
	}))
	w.t.Cleanup(s.Close)
	return s
}

func (w *world) call(s *httptest.Server, method, path, body string, header ...string) (code int, text, warning string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, s.URL+path, strings.NewReader(body))
	w.must(err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := s.Client().Do(r)
	w.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	w.must(err)
	return resp.StatusCode, string(b), resp.Header.Get("Warning")
}

// REST answers when the job has ended, and says in a header what is wrong.
func TestREST(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.web()
	const execute = "/mstc/worker/execute"
	for _, c := range []struct {
		method, path, body string
		code               int
		text, warning      string
		header             []string
	}{
		{"GET", "/mstc/worker", "", 200, "^hello$", "^$", nil},
		{"POST", execute, second("local/ok"), 200, `^Job ` + name + ` complete\.$`, "^$", nil},
		{"POST", execute, first("local/ok"), 200, "^ok: \ufffd out\n$", "^$", nil},
		{"POST", execute, "", 400, "^Invalid request No image: $", `^199 navvy "Invalid request No image: "$`, nil},
		{"POST", execute, "{\"a\n\": \"\\\"é", 400, "^Invalid request No image", `^199 navvy "Invalid request No image: {\\"a \\": \\"\\\\\\"\?"$`, nil},
		{"POST", execute, strings.Repeat("x", 1<<20), 400, "^Invalid request The request has ", `^199 navvy "Invalid`, nil},
		{"POST", execute, second("local/exit3"), 500, `^Job ` + name + ` failed: exit.* 3$`, `^199 navvy "Job ` + name + ` failed: `, nil},
		{"POST", execute, second("local/late"), 500, ` timed out after 15 minutes$`, `timed out after 15 minutes"$`, nil},
		{"POST", execute, second("evil/miner"), 500, `^denied: image evil/miner`, `^199 navvy "denied: image`, nil},
		{"POST", execute, second("local/ok"), 403, "not you", "not you", []string{"Test-Name", "stranger"}},
		{"POST", execute, second("local/ok"), 403, "nobody knows", "nobody knows", []string{"Test-Name", "nobody"}},
		{"POST", execute, second("local/ok"), 403, "another origin", "another origin", []string{"Origin", "http://evil.example"}},
		{"GET", execute, "", 405, "", "", nil},
		{"GET", "/mstc", "", 404, "", "", nil},
	} {
		code, text, warning := w.call(s, c.method, c.path, c.body, c.header...)
		if code != c.code || !regexp.MustCompile(c.text).MatchString(text) || !regexp.MustCompile(c.warning).MatchString(warning) {
			t.Errorf("%s %s %.80s: %d %.200q, warning %.200q; want %+v", c.method, c.path, c.body, code, text, warning, c)
		}
	}
	for _, j := range w.jobs() {
		if j.Owner != "sue" {
			t.Errorf("a job of %s", j.Owner)
		}
	}
	// Whoever called has all of it.
	w.until("all jobs are read", func() bool {
		return !slices.ContainsFunc(w.jobs(), func(j client.Job) bool { return !j.Status.Read })
	})
}

// The job of a caller who leaves goes on.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.web()
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/mstc/worker/execute", strings.NewReader(second("local/wait")))
	w.must(err)
	over := make(chan error)
	go func() {
		resp, err := s.Client().Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		over <- err
	}()
	w.until("it runs", func() bool { return w.runs.begun("align") == 1 })
	leave()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.until("its server knows", func() bool { return w.gone.Load() > 0 })
	close(w.runs.free)
	w.until("it has ended", func() bool { return w.jobs()[0].Status.State() == navvy.Succeeded })
	s.Close() // nothing answers any more
	if w.jobs()[0].Status.Read {
		t.Error("it counts as read, and nobody has its result")
	}
}
