package holder

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/server"
	"github.com/navvy-run/navvy/server/rest"
)

// Bounds of what an HTTP client can make a server hold.
const (
	headerTimeout = 5 * time.Second
	// readTimeout is how long a call may take to come, body and all. Package rest gives
	// more to those who have said who they are.
	readTimeout    = 30 * time.Second
	idleTimeout    = time.Minute
	maxHeaderBytes = 16 << 10
	// maxWebStrangers is how many connections one address has of those who have not
	// said who they are: the oldest goes when one more comes.
	maxWebStrangers = 256
)

// healthPaths are served on every HTTP address.
const (
	alivePath   = "/healthz"
	readyPath   = "/readyz"
	metricsPath = "/metrics"
)

// healthMux serves the three paths for whoever watches over the server, and others,
// unless that is nil, on all others.
func (h *Holder) healthMux(others http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+alivePath, func(w http.ResponseWriter, _ *http.Request) { sayText(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET "+readyPath, func(w http.ResponseWriter, _ *http.Request) {
		if err := h.Ready(); err != nil {
			sayText(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		sayText(w, http.StatusOK, strings.Join(append([]string{"ok"}, h.notes()...), "\n"))
	})
	mux.Handle("GET "+metricsPath, promhttp.HandlerFor(h.metrics, promhttp.HandlerOpts{
		ErrorLog: promLog{h.cfg.Logger}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4,
	}))
	watch := withoutBody(mux)
	if others == nil {
		return watch
	}
	all := http.NewServeMux()
	for _, path := range []string{alivePath, readyPath, metricsPath} {
		all.Handle(path, watch)
	}
	all.Handle("/", others)
	return all
}

// withoutBody serves calls that have no body. Others are refused without waiting for
// it: net/http reads a good part of one before it answers.
func withoutBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
		w.Header().Set("Connection", "close")
		sayText(w, http.StatusBadRequest, "this path takes no body")
	})
}

func sayText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // who asked has gone
}

// promLog hands on what goes wrong while numbers are collected.
type promLog struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (l promLog) Println(v ...any) { l.log.Error("metrics", "error", fmt.Sprint(v...)) }

// Ready is why nothing new can be taken: nil if it can.
func (h *Holder) Ready() error {
	switch {
	case h.Err() != nil:
		return errors.New("the server has failed")
	case h.mgr.Failure() != nil:
		return errors.New("the server is about to end")
	case h.mgr.Draining():
		return errors.New("the server is draining")
	case h.full.Load():
		return errors.New("the disk is full")
	case h.eng.Room() != nil: // whose words name directories
		return errors.New("the disk is nearly full: new jobs are refused")
	}
	return nil
}

// notes are what is amiss while the server is ready, a line each: workers reach it, and
// whatever it takes it keeps.
func (h *Holder) notes() []string {
	if h.mstc == nil {
		return nil
	}
	return h.mstc.Trouble()
}

// HTTPOptions are the addresses of a server for HTTP.
type HTTPOptions struct {
	// Address is where HTTP is served: plain on loopback only, over mTLS where it
	// begins with https://. Empty for none.
	Address string
	// Health is where only the health paths are served, to anybody. Empty for none.
	Health string
	// Handler serves all other paths of Address. Calls that take longer than half a
	// minute need a read deadline of their own, see http.ResponseController. Defaults to none.
	Handler http.Handler
}

// secureScheme begins an address on which a client's certificate is asked for.
const secureScheme = "https://"

// CheckHTTP refuses an address where HTTP must not be served. The error wraps
// navvy.ErrDenied for one that others reach.
func CheckHTTP(address string) error { return checkWeb("http", address) }

func checkWeb(what, address string) error {
	plain, secure := strings.CutPrefix(address, secureScheme)
	host, _, err := net.SplitHostPort(plain)
	if err != nil {
		return fmt.Errorf("%s address %s: want HOST:PORT: %w", what, address, navvy.ErrInvalid)
	}
	if !secure && !Loopback(host) {
		return fmt.Errorf("%s address %s: others than this machine reach it, and plain HTTP tells nobody apart: %w", what, address, navvy.ErrDenied)
	}
	return nil
}

// Loopback tells whether only this machine reaches a host.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// serveHTTP opens the addresses and serves them until the holder leaves.
func (h *Holder) serveHTTP(ctx context.Context, o *HTTPOptions, srv *server.Server, config *tls.Config) error {
	if o.Address != "" {
		if err := CheckHTTP(o.Address); err != nil {
			return err
		}
		address, secure := strings.CutPrefix(o.Address, secureScheme)
		if !secure {
			config = nil
		}
		handler := beside(h.healthMux(o.Handler), h.networkAPI(srv, secure))
		if !secure {
			handler = ownPages(handler, forbid)
		}
		l, err := h.listenHTTP(ctx, "http", address, handler, config)
		if err != nil {
			return err
		}
		h.httpAddr = l.Addr()
	}
	if o.Health == "" {
		return nil
	}
	l, err := h.listenHTTP(ctx, "http", o.Health, h.healthMux(nil), nil)
	if err != nil {
		return err
	}
	h.healthAddr = l.Addr()
	return nil
}

// beside serves the API and all else. The API takes paths as they are, which a mux does not.
func beside(mux, api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, rest.Prefix) {
			api.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// listenHTTP opens an address for what, and serves it.
func (h *Holder) listenHTTP(ctx context.Context, what, address string, handler http.Handler, config *tls.Config) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s address %s: %w", what, address, err)
	}
	s := h.webServer(handler)
	if config != nil {
		s.TLSConfig = config.Clone()
		s.TLSConfig.NextProtos = []string{"http/1.1"}
		s.TLSConfig.GetConfigForClient = nil // nobody joins here
	}
	h.serveWeb(&door{Listener: l, strangers: waiting{limit: maxWebStrangers}}, s, config != nil)
	return l, nil
}

// ownPages lets only those call over loopback HTTP who mean this server: a web page
// from elsewhere that a browser shows reaches loopback, too, but under another name,
// or says where it comes from. refuse answers the others.
func ownPages(next http.Handler, refuse func(w http.ResponseWriter, r *http.Request, why string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !Loopback(hostOf(r.Host)) {
			refuse(w, r, "over plain HTTP this server answers to the name localhost only")
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" {
			u, err := url.Parse(origin)
			if err != nil || u.Host != r.Host {
				refuse(w, r, "pages of another origin have no access")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// forbid refuses a call, in the words of whatever its path is of.
func forbid(w http.ResponseWriter, r *http.Request, why string) {
	if strings.HasPrefix(r.URL.Path, rest.Prefix) {
		rest.Error(w, fmt.Errorf("%s: %w", why, navvy.ErrDenied))
		return
	}
	sayText(w, http.StatusForbidden, why)
}

// hostOf is the host in a Host header.
func hostOf(header string) string {
	if host, _, err := net.SplitHostPort(header); err == nil {
		return host
	}
	return strings.Trim(header, "[]")
}
