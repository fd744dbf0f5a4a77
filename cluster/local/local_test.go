package local_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/server/auth"
)

// write makes a file with what it holds.
func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// shares is a cluster whose service is a program among its files, reads another one, and is
// told a secret.
func shares(t *testing.T, name string) (c *config.Cluster, dir string) {
	t.Helper()
	c, dir = echoes(name, 2), t.TempDir()
	write(t, filepath.Join(dir, "app", "answer.sh"), "#!/bin/sh\nread -r x\nprintf '%s %s %s %s' \"$(cat data/words.txt)\" \"$x\" \"$SECRET\" \"$PLAIN\"\n", 0o755)
	write(t, filepath.Join(dir, "words.txt"), "hello", 0o600)
	c.Dir, c.Share = dir, []config.Share{{From: "words.txt", At: "data/words.txt"}}
	c.Service = config.Service{Kind: config.ServiceCommand, Command: "./answer.sh", Package: "app"}
	c.Workers.Environment = map[string]config.Value{"SECRET": {Env: "TEST_SECRET"}, "PLAIN": {Text: "shown"}}
	c.Workers.Labels = map[string]string{"zone": "here"}
	return c, dir
}

// A cluster answers requests, tells no secrets, changes with its file, and leaves nothing.
func TestCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "TEST_SECRET=hush-hush")
	c, dir := shares(t, "whole")
	list := w.apply(c)
	w.well(c)
	if got := w.answers(c.Name, "requests", "you"); !slices.Equal(got, []string{"hello you hush-hush shown"}) {
		t.Errorf("%q", got)
	}
	w.client(c.Name, func(c *client.Client) error {
		fleet, err := c.Fleet(t.Context())
		if len(fleet) != 2 || fleet[0].Slots != 2 || fleet[0].Offer.Labels["zone"] != "here" {
			t.Errorf("%+v", fleet)
		}
		return err
	})
	w.noSecret(c.Name, list, "hush-hush")

	pid := w.unit(c.Name, "worker-001").Pid
	server := w.unit(c.Name, "server").Pid
	w.put(c.Name, list)
	if now := w.unit(c.Name, "worker-001").Pid; now != pid || w.unit(c.Name, "server").Pid != server {
		t.Errorf("put once more it was started again: process %d, then %d", pid, now)
	}

	write(t, filepath.Join(dir, "words.txt"), "goodbye", 0o600)
	if why := w.differs(c); !strings.Contains(why, "files service") {
		t.Errorf("a file has changed, and that is seen as %q", why)
	}
	w.apply(c)
	w.well(c)
	if got := w.answers(c.Name, "requests", "you"); !slices.Equal(got, []string{"goodbye you hush-hush shown"}) {
		t.Errorf("%q", got)
	}
	if now := w.unit(c.Name, "worker-001").Pid; now != pid {
		t.Error("a change of the service has started workers again")
	}
	c.Workers.Count, c.Workers.Concurrency = 1, 3
	w.apply(c)
	if o := w.observed(c.Name, "worker", "worker-002"); o == nil {
		t.Error("one that is too much is not seen")
	} else if err := w.Remove(w.ctx(), c.Name, o); err != nil {
		t.Error(err)
	}
	w.well(c)
	w.client(c.Name, func(c *client.Client) error {
		fleet, err := c.Fleet(t.Context())
		if len(fleet) != 1 || fleet[0].Slots != 3 {
			t.Errorf("%+v", fleet)
		}
		return err
	})
}

// noSecret checks that a secret is nowhere to be seen.
func (w *world) noSecret(cluster string, list []driver.Resource, secret string) {
	w.t.Helper()
	world, err := w.Observe(w.ctx(), cluster)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range list {
		if text, _ := json.Marshal(r.Properties); strings.Contains(string(text), secret) {
			w.t.Errorf("%s tells the secret", r.ID)
		}
	}
	if text, _ := json.Marshal(world); strings.Contains(string(text), secret) {
		w.t.Error("what is seen tells the secret")
	}
	if pids := processes(secret); len(pids) > 0 {
		w.t.Errorf("it stands in the arguments of %v", pids)
	}
	_ = filepath.Walk(w.state, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return nil
		}
		if strings.Contains(path, "/server/store/") { // which is in a directory for the user alone
			return nil
		}
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), secret) && info.Mode().Perm()&0o077 != 0 {
			w.t.Errorf("others can read it in %s", path)
		}
		return nil
	})
}

// Whatever is killed comes back, and answers.
func TestKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := echoes("killed", 2)
	w.apply(c)
	w.well(c)
	for _, unitName := range []string{"worker-001", "server"} {
		was := w.unit(c.Name, unitName).Pid
		w.kill(was, syscall.SIGKILL)
		w.eventually(unitName+" is up again", func() bool { s := w.unit(c.Name, unitName); return s.Phase == unit.Up && s.Pid != was })
		w.well(c)
		if got := w.answers(c.Name, "requests", unitName); !slices.Equal(got, []string{unitName}) {
			t.Errorf("%q", got)
		}
	}
	// Without a supervisor all goes on, and that nobody would start it again is seen.
	was := w.unit(c.Name, "server").Pid
	for _, pid := range processes("supervise\x00" + w.state) {
		w.kill(pid, syscall.SIGKILL)
	}
	w.eventually("it is dead", func() bool { return w.unit(c.Name, "server").Phase == unit.Alone })
	if o := w.observed(c.Name, "server", "server"); o.Health != driver.HealthFailed || !strings.Contains(o.Detail, "supervisor") {
		t.Errorf("%+v", o)
	}
	if got := w.answers(c.Name, "requests", "x"); !slices.Equal(got, []string{"x"}) {
		t.Errorf("%q", got)
	}
	w.apply(c)
	w.well(c)
	if now := w.unit(c.Name, "server").Pid; now != was {
		t.Errorf("the server was started again: %d, %d", was, now)
	}
}

// What was changed behind its back is seen, by the names of what should be, and mended.
func TestDrift(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := echoes("drift", 2)
	c.Monitor.Kind = config.MonitorPrometheus
	w.apply(c)
	w.well(c)
	dir := filepath.Join(w.state, "navvy-clusters", c.Name)
	identity := filepath.Join(dir, "workers", "worker-001", "identity", "worker.crt")
	for _, tc := range []struct {
		name, seen string
		change     func()
	}{
		{"a queue is paused", `paused is "yes"`, func() {
			w.client(c.Name, func(c *client.Client) error { _, err := c.PauseQueue(t.Context(), "requests"); return err })
		}},
		{"a queue has another service", `service is "cgi:true"`, func() {
			w.client(c.Name, func(c *client.Client) error {
				_, err := c.SetQueue(t.Context(), "requests", client.QueueChange{Work: &navvy.Spec{Service: &navvy.Service{Form: "cgi:true"}}})
				return err
			})
		}},
		{"a queue is gone", "queue requests", func() {
			w.client(c.Name, func(c *client.Client) error { return c.RemoveQueue(t.Context(), "requests") })
		}},
		{"a worker's directory is gone", "worker worker-001", func() {
			if err := os.RemoveAll(filepath.Join(dir, "workers", "worker-001")); err != nil {
				t.Fatal(err)
			}
		}},
		{"a worker was removed from the server", "its certificate was revoked", func() {
			name := certificate(t, identity).Subject.CommonName
			w.client(c.Name, func(c *client.Client) error { return c.RemoveWorker(t.Context(), name) })
		}},
		{"a worker's certificate has expired", "its certificate has expired", func() {
			expire(t, identity)
		}},
		{"a unit is gone", "worker worker-002", func() {
			m, err := unit.OpenSupervised(filepath.Join(dir, "units"), []string{navvyBinary, "cluster", "supervise"}, nil)
			if err == nil {
				err = m.Remove(w.ctx(), "worker-002")
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"a unit is another one", "its unit is not what it was made as", func() {
			m, err := unit.OpenSupervised(filepath.Join(dir, "units"), []string{navvyBinary, "cluster", "supervise"}, nil)
			if err == nil {
				err = m.Put(w.ctx(), &unit.Spec{Name: "worker-002", Args: []string{"/bin/sleep", "1000"}})
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"there is one more", "worker stray is too much", func() {
			m, err := unit.OpenSupervised(filepath.Join(dir, "units"), []string{navvyBinary, "cluster", "supervise"}, nil)
			if err == nil {
				err = m.Put(w.ctx(), &unit.Spec{Name: "stray", Args: []string{"/bin/sleep", "1000"}})
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"rules of the monitor are changed", "monitor prometheus", func() {
			write(t, filepath.Join(dir, "monitor", "navvy-rules.yml"), "groups: []\n", 0o600)
		}},
	} {
		tc.change()
		var why string
		w.eventually(tc.name+" is seen", func() bool { why = w.differs(c); return strings.Contains(why, tc.seen) })
		if o := w.observed(c.Name, "worker", "stray"); o != nil {
			if err := w.Remove(w.ctx(), c.Name, o); err != nil {
				t.Error(err)
			}
		}
		w.apply(c)
		w.well(c)
		if got := w.answers(c.Name, "requests", tc.name); !slices.Equal(got, []string{tc.name}) {
			t.Errorf("%s: %q", tc.name, got)
		}
	}
}

// certificate reads that of a worker.
func certificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := auth.ParseCertPEM(text)
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

// expire puts a certificate that has expired in the place of one.
func expire(t *testing.T, path string) {
	t.Helper()
	was := certificate(t, path)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: was.SerialNumber, Subject: was.Subject, NotAfter: time.Now().Add(-time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o600)
}

// A server whose data are lost begins anew, and its workers join it again.
func TestLostData(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := echoes("lost", 2)
	w.apply(c)
	w.well(c)
	if err := os.RemoveAll(filepath.Join(w.state, "navvy-clusters", c.Name, "server")); err != nil {
		t.Fatal(err)
	}
	w.kill(w.unit(c.Name, "server").Pid, syscall.SIGKILL)
	w.eventually("it is another server", func() bool {
		why := w.differs(c)
		return strings.Contains(why, "worker") || strings.Contains(why, "settings were removed") || strings.Contains(why, "queue requests")
	})
	w.apply(c)
	w.well(c)
	if got := w.answers(c.Name, "requests", "x"); !slices.Equal(got, []string{"x"}) {
		t.Errorf("%q", got)
	}
}

// One that was given up is told with its last words, and tried again when it is put.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := echoes("taken", 0)
	list, err := w.Compile(w.ctx(), c, salt)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Put(w.ctx(), c.Name, &list[0]); err != nil {
		t.Fatal(err)
	}
	// Somebody else holds the server's data directory: it cannot come up.
	data := filepath.Join(w.state, "navvy-clusters", c.Name, "server")
	write(t, data, "no directory", 0o600)
	err = w.Put(w.ctx(), c.Name, &list[1])
	if err == nil || !strings.Contains(err.Error(), "server server") {
		t.Fatalf("%v", err)
	}
	if o := w.observed(c.Name, "server", "server"); o == nil || o.Health != driver.HealthFailed {
		t.Errorf("%+v", o)
	}
	if err := os.Remove(data); err != nil {
		t.Fatal(err)
	}
	w.apply(c)
	w.well(c)
}

// What is somebody else's is left as it is.
func TestForeign(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	there := filepath.Join(w.state, "elsewhere")
	for name, change := range map[string]func(c *config.Cluster) string{
		"a directory of that name": func(c *config.Cluster) string { return filepath.Join(w.state, "navvy-clusters", c.Name) },
		"the directory of local.dir": func(c *config.Cluster) string {
			c.Local.Dir = there
			return there
		},
	} {
		c := echoes("foreign", 1)
		dir := change(c)
		write(t, filepath.Join(dir, "diary"), "mine", 0o600)
		list, err := w.Compile(w.ctx(), c, salt)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Put(w.ctx(), c.Name, &list[0]); !errors.Is(err, navvy.ErrExists) || !strings.Contains(err.Error(), "foreign") && !strings.Contains(err.Error(), there) {
			t.Errorf("%s: %v", name, err)
		}
		if err := w.Put(w.ctx(), c.Name, &list[1]); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("%s: without its mark there is none: %v", name, err)
		}
		world, err := w.Observe(w.ctx(), c.Name)
		if err != nil || len(world.Resources) > 0 {
			t.Errorf("%s: %+v, %v", name, world, err)
		}
		if err := w.Remove(w.ctx(), c.Name, &driver.Observed{ID: list[0].ID}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "diary"))
		entries, _ := os.ReadDir(dir)
		if string(text) != "mine" || len(entries) != 1 {
			t.Errorf("%s: it has %v and %q, %v", name, entries, text, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(w.state, "navvy-clusters")); err != nil {
		t.Fatal(err)
	}
}

// A cluster in a directory of one's own is found by its name, takes nothing else with it when
// it goes, and cannot move.
func TestDir(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	c := echoes("own-dir", 1)
	c.Local.Dir = dir
	w.apply(c)
	w.well(c)
	if list := names(t, w.Driver); !slices.Equal(list, []string{"own-dir"}) {
		t.Errorf("%q", list)
	}
	other := echoes("another", 0)
	other.Local.Dir = dir
	list, err := w.Compile(w.ctx(), other, salt)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Put(w.ctx(), other.Name, &list[0]); !errors.Is(err, navvy.ErrExists) {
		t.Errorf("another cluster is there: %v", err)
	}
	c.Local.Dir = t.TempDir()
	if list, err = w.Compile(w.ctx(), c, salt); err != nil {
		t.Fatal(err)
	}
	if err := w.Put(w.ctx(), c.Name, &list[0]); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "destroy") {
		t.Errorf("it moves: %v", err)
	}
	write(t, filepath.Join(dir, "diary"), "mine", 0o600)
	w.destroy(c.Name)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("there is %v, %v", entries, err)
	}
}

// What this provider cannot do is refused by the name of its key.
func TestRefused(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	for key, tc := range map[string]struct {
		is     error
		change func(c *config.Cluster)
	}{
		"workers.autoscale":       {navvy.ErrUnsupported, func(c *config.Cluster) { c.Workers.Autoscale = &config.Autoscale{Min: 1, Max: 2} }},
		"workers.image":           {navvy.ErrUnsupported, func(c *config.Cluster) { c.Workers.Image = "busybox" }},
		"service.up_timeout":      {navvy.ErrUnsupported, func(c *config.Cluster) { c.Service.UpTimeout = config.Duration(time.Hour) }},
		"monitor.kind":            {navvy.ErrUnsupported, func(c *config.Cluster) { c.Monitor.Kind = config.MonitorInsights }},
		"local.supervisor: you":   {navvy.ErrUnsupported, func(c *config.Cluster) { c.Local.Supervisor = "systemd" }},
		"local.supervisor: \"x\"": {navvy.ErrInvalid, func(c *config.Cluster) { c.Local.Supervisor = "x" }},
		"queue.url":               {navvy.ErrInvalid, func(c *config.Cluster) { c.Queue.Kind = config.QueueNATS }},
		"NO_SUCH":                 {navvy.ErrInvalid, func(c *config.Cluster) { c.Workers.Environment = map[string]config.Value{"A": {Env: "NO_SUCH"}} }},
		"environment.A":           {navvy.ErrInvalid, func(c *config.Cluster) { c.Workers.Environment = map[string]config.Value{"A": {File: "none"}} }},
		"share[0].from":           {navvy.ErrInvalid, func(c *config.Cluster) { c.Share = []config.Share{{From: "none", At: "x"}} }},
		"share[0].at":             {navvy.ErrInvalid, func(c *config.Cluster) { c.Share = []config.Share{{From: ".", At: "../x"}} }},
		"service.package":         {navvy.ErrInvalid, func(c *config.Cluster) { c.Service.Package = "./none" }},
		"service: ":               {navvy.ErrInvalid, func(c *config.Cluster) { c.Service = config.Service{Kind: config.ServiceCGI, Command: "a | b"} }},
		"workers.memory":          {navvy.ErrInvalid, func(c *config.Cluster) { c.Workers.Memory = "lots" }},
		"workers.cpus":            {navvy.ErrInvalid, func(c *config.Cluster) { c.Workers.CPUs = "few" }},
		"name":                    {navvy.ErrInvalid, func(c *config.Cluster) { c.Name = "../x" }},
	} {
		c := echoes("refused", 1)
		tc.change(c)
		if _, err := d.Compile(t.Context(), c, salt); !errors.Is(err, tc.is) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// One changes a cluster at a time; who is told who it is; a dead one has no lock, and
// nothing is left of it.
func TestLock(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	d, other := open(t, state), open(t, state)
	me := driver.Holder{Who: "me@here", What: "apply", Since: time.Now()}
	lock, err := d.Lock(t.Context(), "locked", me)
	if err != nil {
		t.Fatal(err)
	}
	var held *driver.HeldError
	if _, err := other.Lock(t.Context(), "locked", driver.Holder{Who: "you"}); !errors.As(err, &held) || held.Who != me.Who || held.What != me.What || !held.Since.Equal(me.Since) {
		t.Errorf("%v", err)
	}
	if free, err := other.Lock(t.Context(), "another", me); err != nil {
		t.Error(err)
	} else if err := free.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if err := lock.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if lock, err = other.Lock(t.Context(), "locked", me); err != nil {
		t.Fatal(err)
	}
	if err := lock.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if list := left(state); len(list) > 0 {
		t.Errorf("there is left %q", list)
	}
}
