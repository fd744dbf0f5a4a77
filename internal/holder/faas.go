package holder

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/gateway/faas"
	"github.com/navvy-run/navvy/server/auth"
)

// FaaSOptions say where the REST contract of package gateway/faas is served.
type FaaSOptions struct {
	// Address is where: plain on loopback only, as the account that holds the data
	// directory; over mTLS where it begins with https://, as whom the certificate names.
	// Empty for nowhere.
	Address string
	// Insecure allows plain HTTP on any address: whoever reaches it runs code as that account.
	Insecure bool
}

// Check refuses an address where the contract must not be served. The error wraps
// navvy.ErrDenied for one that others reach.
func (o *FaaSOptions) Check() error {
	err := checkWeb("faas", o.Address)
	if o.Insecure && errors.Is(err, navvy.ErrDenied) {
		return nil
	}
	return err
}

// openFaaS opens the gateway of package faas, if there is to be one.
func (h *Holder) openFaaS(ctx context.Context, o *FaaSOptions, local auth.Identity, config *tls.Config) error {
	if o.Address == "" {
		return nil
	}
	if err := o.Check(); err != nil {
		return err
	}
	address, secure := strings.CutPrefix(o.Address, secureScheme)
	identify := h.gate.Certified
	if !secure {
		config = nil
		identify = func(r *http.Request) (auth.Identity, error) {
			me := local
			me.From = r.RemoteAddr
			return me, nil
		}
	}
	var handler http.Handler = faas.New(h.channel, faas.Identify(meets(identify)), &faas.Options{Logger: h.cfg.Logger})
	host, _, _ := net.SplitHostPort(address) // Check has looked
	switch {
	case secure:
	case Loopback(host):
		handler = ownPages(handler, func(w http.ResponseWriter, _ *http.Request, why string) {
			faas.Error(w, fmt.Errorf("%s: %w", why, navvy.ErrDenied))
		})
	default:
		h.cfg.Logger.Warn("whoever reaches this address runs code as this account, without a word of who it is", "address", address, "account", local.Name)
	}
	l, err := h.listenHTTP(ctx, "faas", address, handler, config)
	if err != nil {
		return err
	}
	h.faasAddr = l.Addr()
	return nil
}

// FaaS is where the gateway of package faas listens; nil if there is none.
func (h *Holder) FaaS() net.Addr { return h.faasAddr }
