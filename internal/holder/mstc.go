package holder

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/gateway/mstc"
	"github.com/navvy-run/navvy/server/auth"
)

// MSTCOptions say how clients of the MSTC Cloud Worker are served.
type MSTCOptions struct {
	// Address is where the contract's REST is served: plain on loopback only, as Owner; over
	// mTLS where it begins with https://, as whom the certificate names. Empty for no gateway.
	Address string
	// Insecure allows plain HTTP on any address: whoever reaches it runs images as Owner.
	Insecure bool
	// Broker is the URL of RabbitMQ, which may have a password.
	Broker string
	// Owner and Queue are those of the jobs. They default to those of mstc.Options.
	Owner, Queue string
}

// Check refuses an address where the contract must not be served, and a broker that is none.
// The error wraps navvy.ErrDenied for an address that others reach.
func (o *MSTCOptions) Check() error {
	err := checkWeb("mstc", o.Address)
	if err == nil || o.Insecure && errors.Is(err, navvy.ErrDenied) {
		err = mstc.CheckBroker(o.Broker)
	}
	return err
}

// openMSTC opens the gateway of package mstc, if there is to be one.
func (h *Holder) openMSTC(ctx context.Context, o *MSTCOptions, config *tls.Config) error {
	if o.Address == "" {
		return nil
	}
	if err := o.Check(); err != nil {
		return err
	}
	options := &mstc.Options{Owner: o.Owner, Queue: o.Queue, Slots: h.containerSlots, Clock: h.cfg.Engine.Clock, Logger: h.cfg.Logger}
	var err error
	if h.mstc, err = mstc.New(h.channel, o.Broker, gatewayRecords{h.eng.Registry(), engine.KindMSTC}, options); err != nil {
		return err
	}
	address, secure := strings.CutPrefix(o.Address, secureScheme)
	identify := h.gate.Certified
	if !secure {
		config = nil
		identify = func(r *http.Request) (auth.Identity, error) {
			return auth.Identity{Name: h.mstc.Owner(), Role: auth.RoleUser, From: r.RemoteAddr}, nil
		}
	}
	handler := h.mstc.Handler(mstc.Identify(meets(identify)))
	host, _, _ := net.SplitHostPort(address) // Check has looked
	switch {
	case secure:
	case Loopback(host):
		handler = ownPages(handler, func(w http.ResponseWriter, _ *http.Request, why string) { mstc.Error(w, http.StatusForbidden, why) })
	default:
		h.cfg.Logger.Warn("whoever reaches this address runs images, without a word of who it is", "address", address, "owner", h.mstc.Owner())
	}
	l, err := h.listenHTTP(ctx, "mstc", address, handler, config)
	if err != nil {
		return err
	}
	h.mstcAddr = l.Addr()
	return nil
}

// unboundSlots stands for those of a worker that leaves their number to the manager.
const unboundSlots = 64

// containerSlots is how many containers the workers that are connected run at once.
func (h *Holder) containerSlots() int {
	slots := 0
	for _, w := range h.mgr.Workers() {
		switch {
		case w.Leaving || !slices.Contains(w.Kinds, navvy.KindContainer):
		case w.Slots == 0:
			slots += unboundSlots
		default:
			slots += w.Slots
		}
	}
	return slots
}

// MSTC is where the REST of package mstc is served; nil if it is not.
func (h *Holder) MSTC() net.Addr { return h.mstcAddr }
