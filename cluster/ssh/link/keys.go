package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/navvy-run/navvy"
)

// Options say with which keys to sign in, and which hosts are known.
type Options struct {
	// KnownHosts are files of OpenSSH with the keys of hosts. Those that are not there know
	// none; a host that nobody knows is refused.
	KnownHosts []string `json:"known_hosts"`
	// Identity is the file of the private key; one with a passphrase has to be in the agent.
	// Defaults to all keys of the agent, then those of Identities.
	Identity string `json:"identity,omitempty"`
	// Identities are files that are tried if they are there and have no passphrase.
	Identities []string `json:"identities,omitempty"`
	// Agent is the socket of ssh-agent; empty for none.
	Agent string `json:"agent,omitempty"`
}

// asked is a connection to ssh-agent.
type asked struct {
	net.Conn
	at    string
	waits atomic.Bool // it was asked, and has not answered
	done  func()      // lets go of it
}

// ask connects to ssh-agent until ctx ends; nil if there is none.
func (o *Options) ask(ctx context.Context) *asked {
	if o.Agent == "" {
		return nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", o.Agent)
	if err != nil {
		return nil
	}
	a := &asked{Conn: conn, at: o.Agent}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	a.done = func() {
		stop()
		_ = conn.Close()
	}
	return a
}

// Write asks.
func (a *asked) Write(p []byte) (int, error) {
	a.waits.Store(true)
	return a.Conn.Write(p)
}

// Read has an answer.
func (a *asked) Read(p []byte) (int, error) {
	n, err := a.Conn.Read(p)
	if n > 0 {
		a.waits.Store(false)
	}
	return n, err
}

// release lets go of the agent.
func (a *asked) release() {
	if a != nil {
		a.done()
	}
}

// silent says that the agent has not answered in time; nil if it has.
func (a *asked) silent(ctx context.Context) error {
	if a == nil || ctx.Err() == nil || !a.waits.Load() {
		return nil
	}
	return fmt.Errorf("ssh-agent at %s does not answer in %s: %w", a.at, DialTime, navvy.ErrUnavailable)
}

// missed is why a host has let nobody in. That it is shown too few keys may be the fault of this
// machine, where the agent is gone that had them.
func (o *Options) missed(held *asked, err error) error {
	if held != nil || o.Agent == "" || !errors.Is(err, navvy.ErrDenied) || !o.WantsAgent() {
		return err
	}
	return &HereError{fmt.Errorf("there is no ssh-agent at %s any more, and without its keys: %w", o.Agent, err)}
}

// signers are the keys to sign in with, and the agent that has some of them, nil for none.
func (o *Options) signers(ctx context.Context) ([]ssh.Signer, *asked, error) {
	var a *asked
	if o.WantsAgent() {
		a = o.ask(ctx)
	}
	var held []ssh.Signer
	if a != nil {
		held, _ = agent.NewClient(a).Signers() // one that is locked has none
	}
	list, err := o.among(held)
	if silent := a.silent(ctx); silent != nil {
		err = silent
	}
	if err != nil {
		a.release()
		return nil, nil, err
	}
	return list, a, nil
}

// WantsAgent tells whether ssh-agent is asked: not with a key that needs none.
func (o *Options) WantsAgent() bool {
	if o.Identity == "" {
		return true
	}
	_, err := signer(o.Identity, nil)
	return err != nil
}

// among are the keys to sign in with, where the agent has some.
func (o *Options) among(held []ssh.Signer) ([]ssh.Signer, error) {
	if o.Identity != "" {
		s, err := signer(o.Identity, held)
		return []ssh.Signer{s}, err
	}
	for _, path := range o.Identities {
		if s, err := signer(path, nil); err == nil {
			held = append(held, s)
		}
	}
	if len(held) == 0 {
		return nil, fmt.Errorf("there is no key to sign in with: neither in ssh-agent nor in a file without a passphrase (%s); ssh-add one, or name it (ssh.identity): %w",
			strings.Join(o.Identities, ", "), navvy.ErrDenied)
	}
	return held, nil
}

// signer reads a key from its file, or finds it in the agent if that has a passphrase.
func signer(path string, held []ssh.Signer) (ssh.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("identity: %w: %w", err, navvy.ErrInvalid)
	}
	s, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if !errors.As(err, &locked) {
		if err != nil {
			return nil, fmt.Errorf("identity %s: %w: %w", path, err, navvy.ErrInvalid)
		}
		return s, nil
	}
	public := locked.PublicKey
	if public == nil {
		if text, err := os.ReadFile(path + ".pub"); err == nil {
			public, _, _, _, _ = ssh.ParseAuthorizedKey(text) //nolint:dogsled // the key alone
		}
	}
	for _, s := range held {
		if public != nil && bytes.Equal(s.PublicKey().Marshal(), public.Marshal()) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("identity %s: it has a passphrase, and ssh-agent does not have it: ssh-add %s: %w", path, path, navvy.ErrDenied)
}
