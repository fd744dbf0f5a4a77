package queue

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// Claims is a place for bodies that are too large for a broker's messages: the message then
// carries a claim, which says where its body is. Whoever sends and whoever receives must
// have the same place. Package share/claims makes one of a folder in a share. Its methods
// are called at once. An error that wraps navvy.ErrUnavailable or ErrExhausted is tried
// again, others are not.
type Claims interface {
	// Place says for people where bodies are kept, without secrets. It travels in claims.
	Place() string
	// Put keeps a body under a name that nobody has used. It is durable when Put returns.
	Put(ctx context.Context, name string, body []byte) error
	// Get gives the body of that name, of at most so many bytes; navvy.ErrNotFound if there
	// is none, navvy.ErrCorrupt if it is not what was put.
	Get(ctx context.Context, name string, most int) ([]byte, error)
	// Remove removes the body of that name; that there is none may be navvy.ErrNotFound.
	Remove(ctx context.Context, name string) error
}

// MaxClaim is the longest body that goes to a place for large ones: it is in memory as a
// whole, with those who send and receive it.
const MaxClaim = 64 << 20

// claim is what stands in a message in place of its body; docs/brokers.md specifies it.
type claim struct {
	Name   string `json:"name"`
	Size   int    `json:"size"`
	SHA256 string `json:"sha256"` // in hexadecimal digits
	Place  string `json:"place,omitempty"`
}

// Bounds of what claims of others may say.
var (
	claimName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{15,127}$`)
	claimSum  = regexp.MustCompile(`^[0-9A-Fa-f]{64}$`)
)

const maxClaimPlace = 2048

// check refuses a claim that cannot be one. A name is an opaque word: it names what lies
// in the place that the receiver has, and nothing else, whoever has sent it.
func (c *claim) check() error {
	switch {
	case !claimName.MatchString(c.Name):
		return fmt.Errorf("its claim names %.150q, which is no name of a body: %w", c.Name, navvy.ErrInvalid)
	case !claimSum.MatchString(c.SHA256):
		return fmt.Errorf("its claim has no SHA-256: %w", navvy.ErrInvalid)
	case c.Size < 0 || c.Size > MaxClaim:
		return fmt.Errorf("its claim is for %d bytes, and a body has %d at most: %w", c.Size, MaxClaim, navvy.ErrInvalid)
	case len(c.Place) > maxClaimPlace:
		return fmt.Errorf("its claim names a place in more than %d bytes: %w", maxClaimPlace, navvy.ErrInvalid)
	}
	return nil
}

func sumOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// parcel is a message on its way to the broker.
type parcel struct {
	driver.Message
	large []byte // the body, if the message carries a claim
	claim *claim // nil if it does not
	doubt bool   // the broker may have it already, with that claim
}

// newClaim has a parcel carry a claim in place of its body, which is not put yet.
func (q *Queue) newClaim(p *parcel, body []byte) error {
	p.large = body
	p.claim = &claim{Name: rand.Text(), Size: len(body), SHA256: sumOf(body), Place: q.opts.Claims.Place()}
	p.Body = wrap(&p.Message, p.claim)
	if len(p.Body) > q.limit {
		return fmt.Errorf("send: ids of %d bytes, and this broker takes %d with all that is around them: %w", len(p.ID)+len(p.Correlation), q.limit, navvy.ErrInvalid)
	}
	return nil
}

// putAll puts the bodies of parcels that carry claims, before anything is sent.
func (q *Queue) putAll(ctx context.Context, ps []*parcel) error {
	for _, p := range ps {
		if p.claim == nil {
			continue
		}
		err := q.atClaims(ctx, func(ctx context.Context) error { return q.opts.Claims.Put(ctx, p.claim.Name, p.large) })
		if err != nil {
			return fmt.Errorf("put a body of %d bytes into %s: %w", len(p.large), q.opts.Claims.Place(), err)
		}
	}
	return nil
}

// claimAgain gives a parcel that is sent a second time a body of its own: whoever
// receives the first one, should it have arrived, removes the body of that.
func (q *Queue) claimAgain(p *parcel) error {
	if p.claim == nil || !p.doubt {
		return nil
	}
	if sumOf(p.large) != p.claim.SHA256 {
		return fmt.Errorf("its body has changed while it was sent: %w", navvy.ErrConflict)
	}
	c := *p.claim
	c.Name = rand.Text()
	err := q.claimSlot(q.ctx, func(ctx context.Context) error { return q.opts.Claims.Put(ctx, c.Name, p.large) })
	if retry(err) {
		// It is the place that is away, and not the broker.
		return fmt.Errorf("put a body of %d bytes into %s: %v: %w", len(p.large), c.Place, err, navvy.ErrExhausted) //nolint:errorlint // see above
	} else if err != nil {
		return err
	}
	p.claim, p.doubt = &c, false
	p.Body = wrap(&p.Message, p.claim)
	return nil
}

// fetch gets the body of a claim, and checks it.
func (q *Queue) fetch(ctx context.Context, c *claim) (body []byte, err error) {
	place := q.opts.Claims
	if place == nil {
		return nil, fmt.Errorf("it lies in %q, and no place for large bodies is given here: give that one (--claims PLACE): %w", c.Place, navvy.ErrUnsupported)
	}
	err = q.atClaims(ctx, func(ctx context.Context) error {
		body, err = place.Get(ctx, c.Name, c.Size)
		return err
	})
	here := place.Place()
	switch {
	case errors.Is(err, navvy.ErrNotFound) && c.Place != "" && c.Place != here:
		return nil, fmt.Errorf("it was put into %q as %s, and is not in %s, which is given here: give the same place to all who send and receive: %w", c.Place, c.Name, here, navvy.ErrUnsupported)
	case errors.Is(err, navvy.ErrNotFound):
		return nil, fmt.Errorf("%s is not in %s any more: this message was acknowledged before, or somebody else has removed it: %w", c.Name, here, navvy.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("get %s from %s: %w", c.Name, here, err)
	case len(body) != c.Size || !strings.EqualFold(sumOf(body), c.SHA256):
		return nil, fmt.Errorf("%s in %s is not what was sent: it has %d bytes, or another SHA-256: %w", c.Name, here, len(body), navvy.ErrCorrupt)
	}
	return body, nil
}

// atClaims does something with the place of large bodies, again and again as long as that
// may help and neither ctx nor the queue ends.
func (q *Queue) atClaims(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(q.ctx, func() { cancel(context.Cause(q.ctx)) })()
	tries := newTries()
	for n := 1; ; n++ {
		err := q.claimSlot(ctx, do)
		if ctx.Err() != nil && err != nil {
			return context.Cause(ctx)
		}
		if !retry(err) {
			return err
		}
		q.opts.Logger.Warn("large bodies cannot be put or got: it is tried again", "queue", q.name, "place", q.opts.Claims.Place(), "try", n, "error", err)
		if err := tries.Wait(ctx); err != nil {
			return err
		}
	}
}

// claimsAtOnce bounds how many bodies are put, got and removed at once: what a cloud's
// library has in memory for each is not counted by anybody else.
const claimsAtOnce = 16

// claimSlot does something once, with few others at once.
func (q *Queue) claimSlot(ctx context.Context, do func(context.Context) error) error {
	select {
	case q.claiming <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-q.claiming }()
	return do(ctx)
}

const (
	// removeTime is how long it is tried to remove a body.
	removeTime = 10 * time.Second
	// ackDoubt is how long a connection must outlive an acknowledgement that no broker
	// confirms for it to be sure.
	ackDoubt = 2 * time.Second
)

// depart removes the body of a message that was acknowledged over c. Where leases are of a
// connection, nobody confirms an acknowledgement: then the connection must last for a
// while, or end well. Else the message may come again, and its body stays.
func (q *Queue) depart(c *conn, l *Lease) {
	defer close(l.departed)
	if q.caps.Held {
		timer := time.NewTimer(ackDoubt)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.over:
		}
		if c.broke() {
			q.opts.Logger.Warn("the body of a message stays: its acknowledgement may be lost", "queue", q.name, "message", l.id, "place", q.opts.Claims.Place(), "name", l.claim.Name)
			return
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), removeTime)
	defer cancel()
	tries := newTries()
	for {
		err := q.claimSlot(ctx, func(ctx context.Context) error { return q.opts.Claims.Remove(ctx, l.claim.Name) })
		if err == nil || errors.Is(err, navvy.ErrNotFound) {
			return
		}
		if !retry(err) || tries.Wait(ctx) != nil {
			q.opts.Logger.Warn("the body of a message that is gone could not be removed", "queue", q.name, "message", l.id, "place", q.opts.Claims.Place(), "name", l.claim.Name, "error", err)
			return
		}
	}
}
