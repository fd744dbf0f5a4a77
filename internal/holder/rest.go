package holder

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/navvy-run/navvy/server"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/server/rest"
)

// httpSocketName is the socket beside the other one on which the API is served in JSON.
const httpSocketName = "http.sock"

// api is the API in JSON, for whoever identify names.
func (h *Holder) api(identify rest.Identify) http.Handler {
	return rest.New(h.channel, identify, &rest.Options{Logger: h.cfg.Logger})
}

// networkAPI is the API for those who come over a network: with a certificate, or,
// where HTTP is plain, with a token.
func (h *Holder) networkAPI(srv *server.Server, secure bool) http.Handler {
	if secure {
		return h.api(meets(h.gate.Certified))
	}
	return h.api(meets(func(r *http.Request) (auth.Identity, error) { return h.gate.Bearer(r, srv.FindAPIToken) }))
}

// visitorKey is that of the connection in the context of a call over HTTP.
type visitorKey struct{}

// withVisitor notes which connection calls come on.
func withVisitor(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	if s, ok := conn.(*stranger); ok {
		ctx = context.WithValue(ctx, visitorKey{}, s)
	}
	return ctx
}

// meets tells the door when it is known who calls.
func meets(identify rest.Identify) rest.Identify {
	return func(r *http.Request) (auth.Identity, error) {
		me, err := identify(r)
		if s, ok := r.Context().Value(visitorKey{}).(*stranger); ok && err == nil {
			s.met()
		}
		return me, err
	}
}

// openHTTPSocket opens the socket for HTTP, for the account that holds the data
// directory: who it is, the listener has checked.
func (h *Holder) openHTTPSocket(local auth.Identity) (err error) {
	if h.httpSocket, err = h.cfg.Dir.listen(httpSocketName); err != nil {
		return err
	}
	local.From = "unix"
	handler := h.api(func(*http.Request) (auth.Identity, error) { return local, nil })
	h.serveWeb(h.httpSocket, h.webServer(handler), false)
	return nil
}

// webServer is a server of HTTP, whose calls end when the holder leaves.
func (h *Holder) webServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
		ErrorLog:    slog.NewLogLogger(h.cfg.Logger.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return h.webContext }, ConnContext: withVisitor,
	}
}

// serveWeb serves HTTP on a listener, once the holder serves.
func (h *Holder) serveWeb(l net.Listener, s *http.Server, secure bool) {
	h.listeners = append(h.listeners, l)
	h.web = append(h.web, s)
	h.serving = append(h.serving, func() error {
		if secure {
			return s.ServeTLS(l, "", "")
		}
		return s.Serve(l)
	})
}

// webEnd is how long answers may take that are under way when the holder leaves.
const webEnd = time.Second

// closeWeb ends what is served over HTTP: what waits for something is told, what is
// about to be answered is.
func (h *Holder) closeWeb() {
	h.endWeb(errLeaving)
	ctx, cancel := context.WithTimeout(context.Background(), webEnd)
	defer cancel()
	for _, s := range h.web {
		if s.Shutdown(ctx) != nil {
			_ = s.Close() // whoever does not read
		}
	}
}
