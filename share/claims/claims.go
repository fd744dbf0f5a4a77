// Package claims keeps bodies of messages that are too large for a broker in a folder of a
// share, one file each. It is what package queue takes as Options.Claims.
package claims

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share"
)

// Place keeps bodies in a share, whose directory flushes them before they are there. Its
// methods may be called at once. Their errors wrap navvy.ErrUnavailable for all that may be
// better later.
type Place struct {
	share *share.Share
	name  string
}

// probe is the name of a file that nobody has made.
const probe = "is-it-there"

// Open takes a folder of a share for bodies; empty for the whole share. It asks the share
// for a file that is not there, so that a mistake is told now. The share is not used any
// more, and closed with the place, or at once after an error.
func Open(ctx context.Context, s *share.Share, folder string) (*Place, error) {
	p := &Place{share: s, name: nameOf(s.String(), folder)}
	if folder != "" {
		var err error
		if p.share, err = s.Sub(folder); err != nil {
			return nil, err
		}
	}
	_, err := p.share.Stat(ctx, probe)
	if _, missing := errors.AsType[*share.Missing](err); err != nil && (missing || !errors.Is(err, navvy.ErrNotFound)) {
		return nil, errors.Join(fmt.Errorf("large bodies: %w", err), p.share.Close())
	}
	return p, nil
}

// nameOf is how a folder of a share is called on all machines: without its users, without
// the options that only say how it is reached, and for a directory with the machine's name.
func nameOf(name, folder string) string {
	u, err := url.Parse(name)
	if strings.HasPrefix(name, "/") {
		u, err = &url.URL{Scheme: "file", Path: name}, nil
	}
	if err != nil || u.Scheme == "" || u.Opaque != "" {
		return name + "/" + folder
	}
	values, kept := u.Query(), url.Values{}
	for _, option := range []string{"endpoint", "storage_account", "domain"} {
		if values.Has(option) {
			kept.Set(option, values.Get(option))
		}
	}
	if u.Scheme == "file" {
		u.Host, _ = os.Hostname() // else without it
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: path.Join("/", u.Path, folder), RawQuery: kept.Encode()}).String()
}

// Place says where bodies are kept, for people.
func (p *Place) Place() string { return p.name }

// Put keeps a body. It is durable when Put returns.
func (p *Place) Put(ctx context.Context, name string, body []byte) error {
	_, err := p.share.Put(ctx, name, bytes.NewReader(body), nil)
	return later(ctx, err)
}

// Get gives a body of at most so many bytes, whose checksum is that of what was put. One
// that is longer wraps navvy.ErrCorrupt.
func (p *Place) Get(ctx context.Context, name string, most int) ([]byte, error) {
	r, err := p.share.Open(ctx, name)
	if err != nil {
		return nil, later(ctx, err)
	}
	defer r.Close() //nolint:errcheck // it was only read
	if r.File.Size > int64(most) {
		return nil, fmt.Errorf("it has %d bytes, and should have %d: %w", r.File.Size, most, navvy.ErrCorrupt)
	}
	var body bytes.Buffer
	body.Grow(int(r.File.Size) + bytes.MinRead) // which ReadFrom wants to see the end
	if _, err := body.ReadFrom(r); err != nil {
		return nil, later(ctx, err)
	}
	return body.Bytes(), nil
}

// Remove removes a body; navvy.ErrNotFound if there is none.
func (p *Place) Remove(ctx context.Context, name string) error {
	return later(ctx, p.share.Remove(ctx, name))
}

// Close ends the use of the share.
func (p *Place) Close() error { return p.share.Close() }

// forGood are the errors that waiting does not mend.
var forGood = []error{navvy.ErrNotFound, navvy.ErrCorrupt, navvy.ErrDenied, navvy.ErrInvalid, navvy.ErrUnsupported, navvy.ErrClosed}

// later says of an error that it may be better later, unless it is known that it will not:
// a network file system that is away has many errors. So has a bucket that is not there,
// of which nobody knows what was in it.
func later(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	if missing, ok := errors.AsType[*share.Missing](err); ok {
		return fmt.Errorf("%s: %w", missing.Error(), navvy.ErrUnavailable)
	}
	for _, known := range forGood {
		if errors.Is(err, known) {
			return err
		}
	}
	if errors.Is(err, navvy.ErrUnavailable) || errors.Is(err, navvy.ErrExhausted) {
		return err
	}
	return fmt.Errorf("%w: %w", err, navvy.ErrUnavailable)
}
