package link_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/ssh/link"
	"github.com/navvy-run/navvy/cluster/ssh/sshdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open has a host, and a way to it.
func open(t *testing.T) (*sshdtest.Host, link.Host, *link.Options) {
	t.Helper()
	n := sshdtest.Start(t, 1)
	h, err := link.ParseHost(n.Hosts[0].Name(), "nobody")
	if err != nil {
		t.Fatal(err)
	}
	return n.Hosts[0], h, &link.Options{KnownHosts: []string{n.KnownHosts}, Identity: n.Identity}
}

func dial(t *testing.T, h link.Host, o *link.Options) *link.Conn {
	t.Helper()
	c, err := link.Dial(t.Context(), h, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Scripts get their arguments as they are, and their standard input; what they say when they
// fail is told.
func TestRun(t *testing.T) {
	t.Parallel()
	_, h, o := open(t)
	c := dial(t, h, o)
	args := []string{"it's", `a "b" $HOME`, "", "c\nd", `\`, "!!"}
	out, err := c.Run(t.Context(), `for a in "$@"; do printf "<%s>" "$a"; done; cat`, args, strings.NewReader("from here"))
	if want := "<" + strings.Join(args, "><") + ">from here"; err != nil || string(out) != want {
		t.Errorf("it says %q, want %q, %v", out, want, err)
	}
	_, err = c.Run(t.Context(), `echo some words >&2; exit 7`, nil, nil)
	if exit, is := errors.AsType[*link.ExitError](err); !is || exit.Status != 7 || exit.Said != "some words" {
		t.Errorf("its failure is told as %v", err)
	}
	var all sync.WaitGroup
	for range 30 { // more than sshd allows on one connection
		all.Go(func() {
			if _, err := c.Run(t.Context(), `sleep 0.01`, nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// A command that ends well before it has read all that it is given has ended well.
func TestRunUnread(t *testing.T) {
	t.Parallel()
	_, h, o := open(t)
	c := dial(t, h, o)
	for range 20 {
		if out, err := c.Run(t.Context(), `echo well`, nil, bytes.NewReader(make([]byte, 8<<20))); err != nil || string(out) != "well\n" {
			t.Fatalf("%q, %v", out, err)
		}
	}
}

// A host that writes without end is left, and does not fill the memory; the connection goes on.
func TestRunWithoutEnd(t *testing.T) {
	t.Parallel()
	_, h, o := open(t)
	c := dial(t, h, o)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := c.Run(ctx, `exec yes`, nil, nil); !errors.Is(err, navvy.ErrCorrupt) || len(out) > 0 {
		t.Errorf("it ends with %v and %d bytes", err, len(out))
	}
	const most = 8 << 20
	if out, err := c.Run(ctx, `head -c "$1" /dev/zero`, []string{strconv.Itoa(most)}, nil); err != nil || len(out) != most {
		t.Errorf("what is just not too much ends with %v and %d bytes", err, len(out))
	}
}

// Whoever is interrupted waits for no command; one whose host dies is told so.
func TestRunEnds(t *testing.T) {
	t.Parallel()
	host, h, o := open(t)
	c := dial(t, h, o)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := c.Run(ctx, `sleep 1000`, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Run(t.Context(), `exec sleep 1000`, nil, nil)
		ended <- err
	}()
	host.Stop(t)
	if err := <-ended; !errors.Is(err, navvy.ErrUnavailable) {
		t.Errorf("it ends with %v", err)
	}
	<-c.Dead()
	if _, err := c.Run(t.Context(), `true`, nil, nil); !errors.Is(err, navvy.ErrUnavailable) {
		t.Errorf("on a dead connection: %v", err)
	}
	if _, err := link.Dial(t.Context(), h, o); !errors.Is(err, navvy.ErrUnavailable) {
		t.Errorf("a host that is down: %v", err)
	}
}

// A port of the host's loopback leads here.
func TestListen(t *testing.T) {
	t.Parallel()
	_, h, o := open(t)
	c := dial(t, h, o)
	l, err := c.Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // all was said
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := there.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1)
	if _, err := conn.Read(got); err != nil || got[0] != 'x' {
		t.Errorf("it reads %q, %v", got, err)
	}
	if err := errors.Join(there.Close(), l.Close()); err != nil {
		t.Error(err)
	}
}

// Keys come from the agent, too; one with a passphrase comes from there alone, and without any
// it is said what to do.
func TestKeys(t *testing.T) {
	t.Parallel()
	_, h, o := open(t)
	text, err := os.ReadFile(o.Identity)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := ssh.ParseRawPrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	held := agent.NewKeyring()
	if err := held.Add(agent.AddedKey{PrivateKey: raw}); err != nil {
		t.Fatal(err)
	}
	at := sshdtest.ServeAgent(t, held)
	dial(t, h, &link.Options{KnownHosts: o.KnownHosts, Agent: at})

	block, err := ssh.MarshalPrivateKeyWithPassphrase(*raw.(*ed25519.PrivateKey), "", []byte("hush"))
	if err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(t.TempDir(), "locked")
	if err := os.WriteFile(locked, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	dial(t, h, &link.Options{KnownHosts: o.KnownHosts, Agent: at, Identity: locked})
	other := otherKey(t)
	for name, bad := range map[string]struct {
		o    *link.Options
		want string
		here bool // the cause is on this machine
	}{
		"locked":  {&link.Options{Identity: locked}, "ssh-add " + locked, true},
		"none":    {&link.Options{Identities: []string{locked}}, "no key to sign in with", true},
		"missing": {&link.Options{Identity: locked + "-not"}, "no such file", true},
		"other":   {&link.Options{Identity: other, Agent: at + "-not"}, "does not let", false},
		"gone":    {&link.Options{Identities: []string{other}, Agent: at + "-not"}, "no ssh-agent at " + at + "-not", true},
	} {
		bad.o.KnownHosts = o.KnownHosts
		_, err := link.Dial(t.Context(), h, bad.o)
		if err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: %v, want %q", name, err, bad.want)
		}
		if _, here := errors.AsType[*link.HereError](err); here != bad.here {
			t.Errorf("%s: it is told as %T", name, err)
		}
	}
}

// A host that is shown more keys than it wants is no host that does not answer.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	_, h, o := open(t)
	held := agent.NewKeyring()
	for range 8 { // sshd takes 6
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err == nil {
			err = held.Add(agent.AddedKey{PrivateKey: private})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := link.Dial(t.Context(), h, &link.Options{KnownHosts: o.KnownHosts, Agent: sshdtest.ServeAgent(t, held)})
	if !errors.Is(err, navvy.ErrDenied) || errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(err.Error(), "ssh.identity") {
		t.Errorf("it is told as %v", err)
	}
}

// silentSigner is of an agent that tells its keys, and does not sign.
type silentSigner struct {
	agent.Agent
	until <-chan struct{}
}

func (s silentSigner) Sign(ssh.PublicKey, []byte) (*ssh.Signature, error) {
	<-s.until
	return nil, errors.New("too late")
}

// An agent that does not answer costs as much as a host that does not, whatever it is asked;
// with a key that needs none it is not asked.
func TestSilentAgent(t *testing.T) {
	t.Parallel()
	_, h, o := open(t)
	deaf, err := net.Listen("unix", filepath.Join(t.TempDir(), "deaf")) // the kernel accepts
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close() //nolint:errcheck // nobody was spoken with
	until := make(chan struct{})
	held := agent.NewKeyring()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err == nil {
		err = held.Add(agent.AddedKey{PrivateKey: private})
	}
	if err != nil {
		t.Fatal(err)
	}
	signs := sshdtest.ServeAgent(t, silentSigner{held, until})
	t.Cleanup(func() { close(until) })
	letIn(t, o, private)
	dial(t, h, &link.Options{KnownHosts: o.KnownHosts, Agent: deaf.Addr().String(), Identity: o.Identity})
	var both sync.WaitGroup
	for _, at := range []string{deaf.Addr().String(), signs} {
		both.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*link.DialTime)
			defer cancel()
			_, err := link.Dial(ctx, h, &link.Options{KnownHosts: o.KnownHosts, Agent: at})
			if !errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(err.Error(), "ssh-agent at "+at+" does not answer") || ctx.Err() != nil {
				t.Errorf("%s: %v", at, err)
			}
		})
	}
	both.Wait()
}

// letIn has hosts let a key in, too.
func letIn(t *testing.T, o *link.Options, private ed25519.PrivateKey) {
	t.Helper()
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(filepath.Dir(o.Identity), "authorized_keys"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.Write(ssh.MarshalAuthorizedKey(public))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// otherKey is one that nobody lets in.
func otherKey(t *testing.T) string {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A host is trusted by its key alone: not if nobody knows it, not if it has changed, not if it
// was revoked.
func TestHostKeys(t *testing.T) {
	t.Parallel()
	host, h, o := open(t)
	known := filepath.Join(t.TempDir(), "known_hosts")
	for _, test := range []struct {
		lines, want string
		changed     bool
	}{
		{"", "not known", false},
		{strings.Replace(host.KnownLine(), "127.0.0.1", "127.0.0.2", 1), "not known", false},
		{"@revoked " + host.KnownLine(), "REVOKED", true},
	} {
		if err := os.WriteFile(known, []byte(test.lines+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := link.Dial(t.Context(), h, &link.Options{KnownHosts: []string{known}, Identity: o.Identity})
		wrong, is := errors.AsType[*link.KeyError](err)
		if !is || wrong.Changed != test.changed || !strings.Contains(err.Error(), test.want) || !errors.Is(err, navvy.ErrDenied) {
			t.Errorf("with %q: %v", test.lines, err)
		}
	}
	_, err := link.Dial(t.Context(), h, &link.Options{KnownHosts: []string{known + "-not"}, Identity: o.Identity})
	if _, is := errors.AsType[*link.KeyError](err); !is || !strings.Contains(err.Error(), known+"-not") {
		t.Errorf("without a file: %v", err)
	}
	host.Stop(t)
	host.NewKey(t)
	host.Start(t)
	_, err = link.Dial(t.Context(), h, o)
	if wrong, is := errors.AsType[*link.KeyError](err); !is || !wrong.Changed || !strings.Contains(err.Error(), "HAS CHANGED") {
		t.Errorf("with another key: %v", err)
	}
}

// Hosts are read as ssh has them.
func TestParseHost(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a": "me@a:22", "you@a.example": "you@a.example:22", "you@10.0.0.1:2222": "you@10.0.0.1:2222",
		"[::1]": "me@[::1]:22", "you@[fe80::1]:99": "you@[fe80::1]:99",
		"": "", "@a": "", "a:0": "", "a:70000": "", "a:b": "", "a b": "", "you@": "", "a:1:2": "",
	} {
		h, err := link.ParseHost(text, "me")
		if want == "" {
			if !errors.Is(err, navvy.ErrInvalid) {
				t.Errorf("%q is read as %s, %v", text, h, err)
			}
		} else if err != nil || h.String() != want {
			t.Errorf("%q is read as %s, want %s, %v", text, h, want, err)
		}
	}
}

func FuzzParseHost(f *testing.F) {
	for _, text := range []string{"a", "me@a:22", "[::1]:22", "me@[::1]", "a:1:2", "@", ":"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := link.ParseHost(text, "me")
		if err != nil {
			return
		}
		if h.User == "" || h.Name == "" || h.Port < 1 || h.Port > 65535 {
			t.Errorf("%q is read as %+v", text, h)
		}
	})
}
