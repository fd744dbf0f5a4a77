package ssh

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/ssh/link"
	"github.com/navvy-run/navvy/cluster/ssh/sshdtest"
)

const whole = `dir /home/me/.local/state/navvy-hosted/demo/a
system Linux x86_64
env HOME /home/me
env PATH /usr/bin:/bin
there
whose navvy cluster demo 0123
worker worker-001
pem worker-001 ca.crt -----BEGIN CERTIFICATE-----
pem worker-001 ca.crt AAAA
pem worker-001 worker.crt BBBB
token worker-001
files 0123456789abcdef
log worker-001 it ends here
sum 99
units
{"name":"worker-001","digest":"d","phase":"up","pid":7}
`

// What a host tells is read whole, and nothing of a directory that is another's.
func TestParseSeen(t *testing.T) {
	t.Parallel()
	n, err := parseSeen([]byte(whole), "navvy cluster demo 0123")
	if err != nil {
		t.Fatal(err)
	}
	id := n.workers["worker-001"]
	if string(id.CA) != "-----BEGIN CERTIFICATE-----\nAAAA\n" || string(id.Cert) != "BBBB\n" {
		t.Errorf("its identity is read as %q", id)
	}
	got := fmt.Sprint(n.dir, n.there, n.ours, n.env["PATH"], n.tokens, n.files, n.logs, n.sum, n.units["worker-001"].Pid)
	if want := "/home/me/.local/state/navvy-hosted/demo/atruetrue/usr/bin:/binmap[worker-001:true] map[0123456789abcdef:true] map[worker-001:it ends here]997"; strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("it is read as %s", got)
	}
	if n, err := parseSeen([]byte(whole), "navvy cluster demo 4567"); err != nil || n.ours {
		t.Errorf("another's is ours, %v", err)
	}
	for _, text := range []string{"", "Welcome!\n", "system Linux\n", "dir a\nsystem Linux\n", whole + "{"} {
		if _, err := parseSeen([]byte(text), "m"); !errors.Is(err, navvy.ErrCorrupt) {
			t.Errorf("%q is read, %v", text, err)
		}
	}
}

// A unit that is not ended on a host that answers is none of a host that is away: whoever moves
// a worker would leave it there.
func TestAnswered(t *testing.T) {
	t.Parallel()
	const said = `{"name":"a"}{"name":"b","error":"it does not end"}`
	err := answered(&place{Text: "here"}, []byte(said), nil)
	if !errors.Is(err, navvy.ErrConflict) || errors.Is(err, navvy.ErrUnavailable) || err.Error() != "host here: unit b: it does not end: conflict" {
		t.Errorf("it is told as %v", err)
	}
}

// A host whose connection has ended is away if it does not answer the next call.
func TestConnectionEnds(t *testing.T) {
	t.Parallel()
	n := sshdtest.Start(t, 1)
	d := New(Options{User: n.User})
	t.Cleanup(func() { _ = d.Close() }) // it was only asked
	p, err := d.hosts.place(n.Hosts[0].Name(), n.Identity, n.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.hosts.run(t.Context(), p, "kill -9 $PPID", nil, nil); !errors.Is(err, navvy.ErrUnavailable) || away(err) {
		t.Errorf("a connection that ends is told as %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := d.hosts.run(t.Context(), p, "exec sleep 1000", nil, nil)
		ended <- err
	}()
	n.Hosts[0].Stop(t)
	if err := <-ended; !lost(err) {
		t.Errorf("one that is down is told as %v", err)
	}
}

// A host that is signed in on and says nothing more is away, but not lost; one whose script fails
// is neither, nor is one of whoever was interrupted.
func TestAway(t *testing.T) {
	t.Parallel()
	n := sshdtest.Start(t, 1)
	d := New(Options{User: n.User})
	t.Cleanup(func() { _ = d.Close() }) // it was only asked
	p, err := d.hosts.place(n.Hosts[0].Name(), n.Identity, n.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.hosts.run(t.Context(), p, "exit 3", nil, nil); err == nil || away(err) {
		t.Errorf("what fails there is told as %v", err)
	}
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if _, err := d.hosts.run(ctx, p, "exec sleep 1000", nil, nil); away(err) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("what was interrupted is told as %v", err)
		}
		cancel()
	}
	ctx, cancel := within(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = d.hosts.run(ctx, p, "exec sleep 1000", nil, nil)
	if !away(err) || lost(err) || !errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(err.Error(), "does not answer for 50ms") {
		t.Errorf("what takes too long is told as %v", err)
	}
	if _, err := d.hosts.run(t.Context(), p, "true", nil, nil); !away(err) || lost(err) {
		t.Errorf("it is called again, with %v", err)
	}
	d.hosts.anew()
	if _, err := d.hosts.connect(t.Context(), p); err != nil { // sshd has too many sleepers to run more
		t.Errorf("it is not called any more: %v", err)
	}
}

// Of a file that may be secret neither the text nor its sum is an argument of what puts it; one
// that arrives otherwise than it was sent is refused.
func TestPutFile(t *testing.T) {
	t.Parallel()
	n := sshdtest.Start(t, 1)
	d := New(Options{User: n.User})
	t.Cleanup(func() { _ = d.Close() }) // it was only asked
	p, err := d.hosts.place(n.Hosts[0].Name(), n.Identity, n.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	dir, sum := t.TempDir(), fmt.Sprintf("%x", sha256.Sum256([]byte("first\nhush")))
	from, to := io.Pipe()
	put := make(chan error, 1)
	go func() { put <- d.hosts.putFile(t.Context(), p, dir, "secret", sum, "600", from) }()
	if _, err := to.Write([]byte("first\n")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		if begun, _ := filepath.Glob(dir + "/.new-file-*"); len(begun) > 0 { // by what runs there
			break
		}
	}
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	runs := false
	for _, path := range all {
		text, _ := os.ReadFile(path) // it may have ended
		runs = runs || strings.Contains(string(text), dir)
		if strings.Contains(string(text), sum) {
			t.Errorf("it is an argument of %q", text)
		}
	}
	_, err = to.Write([]byte("hush"))
	if err = errors.Join(err, to.Close(), <-put); err != nil || !runs {
		t.Fatal(runs, err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "secret")); err != nil || string(text) != "first\nhush" {
		t.Errorf("there is %q, %v", text, err)
	}
	if err := d.hosts.putFile(t.Context(), p, dir, "secret", sum, "600", strings.NewReader("other")); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("one that is damaged: %v", err)
	}
}

func FuzzParseSeen(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("dir /\nsystem x\npem a ca.crt b\nunits\n{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := parseSeen(text, "m")
		if err == nil && (n.dir == "" || n.system == "") {
			t.Errorf("%q is read", text)
		}
	})
}

// The table of tunnels and their states are read strictly enough that nothing of another
// version is taken for ours.
func FuzzTable(f *testing.F) {
	f.Add([]byte(`{"version":1,"server":"127.0.0.1:1","hosts":[{"text":"a","host":{"user":"me","name":"a","port":22},"link":{}}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"port":7,"open":true}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if list, err := parseTable(text); err == nil && list.Version != tableVersion || err != nil && !errors.Is(err, navvy.ErrCorrupt) {
			t.Errorf("%q: %v", text, err)
		}
		if st := parseState(text); st != (tunnelState{}) && st.Version != tableVersion {
			t.Errorf("%q is read as %+v", text, st)
		}
	})
}

// A host of another kind is refused before anything is copied, with both kinds told.
func TestFits(t *testing.T) {
	t.Parallel()
	p := &place{Text: "a", Host: link.Host{User: "me", Name: "a", Port: 22}}
	for _, system := range []string{"Darwin arm64", "Linux mips", "FreeBSD amd64", ""} {
		err := (&seen{system: system}).fits(p)
		if !errors.Is(err, navvy.ErrUnsupported) || !strings.Contains(err.Error(), system) || !strings.Contains(err.Error(), "Linux") {
			t.Errorf("%s: %v", system, err)
		}
	}
}

// The scripts are of one line, for login shells that want that, and are no mistakes to sh.
func TestScripts(t *testing.T) {
	t.Parallel()
	for _, script := range []string{lookScript, claimScript, fileScript, treeScript, dropTreesScript, forgetScript, strangerScript, clearScript, sshdScript, endScript} {
		if strings.Contains(script, "\n") {
			t.Errorf("%q is not of one line", script)
		}
	}
}

// Files of keys are beside the file that names them, unless they are said to be in the user's home.
func TestPlaces(t *testing.T) {
	t.Parallel()
	d := New(Options{User: "me", Home: "/home/me"})
	t.Cleanup(func() { _ = d.Close() }) // nobody was called
	for path, want := range map[string]string{
		"~/.ssh/key": "/home/me/.ssh/key", "keys/key": "/etc/demo/keys/key", "/key": "/key", "~you/key": "/etc/demo/~you/key", "a/~/key": "/etc/demo/a/~/key",
	} {
		list, err := d.hosts.places(&config.Cluster{Dir: "/etc/demo", Workers: config.Workers{Count: 1}, SSH: &config.SSH{Hosts: []string{"a"}, Identity: path, KnownHosts: path}})
		if err != nil {
			t.Fatal(err)
		}
		if got := list[0].Link; got.Identity != want || len(got.KnownHosts) != 1 || got.KnownHosts[0] != want {
			t.Errorf("%s is %s and %s, want %s", path, got.Identity, got.KnownHosts, want)
		}
	}
}
