package holder

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/server/auth"
)

// Connections over HTTP of those who have not said who they are close the oldest of
// their kind, and none of those who have.
func TestWebStrangers(t *testing.T) {
	t.Parallel()
	h := &Holder{cfg: Config{Logger: slog.New(slog.DiscardHandler)}, webContext: t.Context()}
	identify := meets(func(r *http.Request) (auth.Identity, error) {
		if r.Header.Get("Authorization") == "" {
			return auth.Identity{}, navvy.ErrDenied
		}
		return auth.Identity{Name: "ann"}, nil
	})
	s := h.webServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := identify(r); err != nil {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	s.ReadTimeout, s.ReadHeaderTimeout, s.IdleTimeout = 0, 0, 0 // it is the others that close them
	l, err := h.listenHTTP(t.Context(), "http", "127.0.0.1:0", http.NotFoundHandler(), nil)
	if err != nil {
		t.Fatal(err)
	}
	d, ok := h.listeners[0].(*door)
	if !ok || d.strangers.limit != maxWebStrangers {
		t.Fatalf("strangers come in unbounded: %T", h.listeners[0])
	}
	d.strangers.limit = 2
	go func() { _ = s.Serve(d) }()
	defer s.Close()
	var conns []net.Conn
	for range 5 {
		conn := dialWeb(t, l.Addr())
		header := ""
		if len(conns) == 0 {
			header = "Authorization: it is me\r\n"
		}
		conns = append(conns, conn)
		if status, err := get(conn, header); err != nil || status == http.StatusOK != (header != "") {
			t.Fatalf("status %d, %v", status, err)
		}
	}
	for i, conn := range conns[1:3] {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("stranger %d is still there: %v", i, err)
		}
	}
	for _, conn := range slices.Delete(conns, 1, 3) {
		if _, err := get(conn, ""); err != nil {
			t.Errorf("one is gone that may stay: %v", err)
		}
	}
}

// dialWeb opens a connection for as long as the test lasts.
func dialWeb(t *testing.T, addr net.Addr) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// get makes a call on a connection.
func get(conn net.Conn, header string) (status int, err error) {
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n%s\r\n", header); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// A call has an end, however little of it comes.
func TestReadTimeout(t *testing.T) {
	t.Parallel()
	h := &Holder{cfg: Config{Logger: slog.New(slog.DiscardHandler)}, webContext: t.Context()}
	if s := h.webServer(nil); s.ReadTimeout != readTimeout || s.ReadHeaderTimeout != headerTimeout {
		t.Errorf("a call may take %v, its head %v", s.ReadTimeout, s.ReadHeaderTimeout)
	}
}
