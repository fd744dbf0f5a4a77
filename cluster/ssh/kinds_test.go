package ssh_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/ssh/sshdtest"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/queue"
	queuedriver "github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/natsqueue"
	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
)

// Over a broker there is no server and no tunnel: workers have its URL, which is no argument of
// theirs, and the files of their service, which follow their changes.
func TestBroker(t *testing.T) {
	t.Parallel()
	const password = "pass-hush-word"
	nats := natstest.Start(t, &natstest.Options{Username: "me", Password: password})
	base := "nats://me:" + password + "@" + nats.Addr
	w, dir := newWorld(t, 2), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("url", base+"\n")
	write("greeting", "hello from one")
	c := w.cluster("over-nats", 3)
	c.Dir = dir
	c.Queue = config.Queue{Kind: config.QueueNATS, Request: "in", Response: "out", URL: &config.Value{File: "url"}, Lease: config.Duration(10 * time.Second)}
	c.Service = config.Service{Kind: config.ServiceCommand, Command: "cat data/greeting"}
	c.Share = []config.Share{{From: "greeting", At: "data/greeting"}}
	w.up(c)
	w.well(c)
	if o := w.observed(c.Name); o["tunnel tunnel"].Health != "" || o["server server"].Health != "" {
		t.Error("there is a server or a tunnel")
	}
	if got := w.through(base, "x"); got != "hello from one" {
		t.Errorf("it answers %q", got)
	}
	write("greeting", "hello from another")
	if err := w.apply(c); err != nil {
		t.Fatal(err)
	}
	w.well(c)
	if got := w.through(base, "x"); got != "hello from another" {
		t.Errorf("it answers %q", got)
	}
	for _, h := range w.net.Hosts {
		trees, err := os.ReadDir(filepath.Join(hostDir(h, c.Name), "files"))
		if err != nil || len(trees) != 1 {
			t.Errorf("on %s there are the trees %v, %v", h.Name(), trees, err)
		}
	}
	if all := strings.Join(commands(""), "\n"); strings.Contains(all, password) {
		t.Error("the password is an argument")
	}
}

// through sends a request over a broker and gives what is answered.
func (w *world) through(base, request string) string {
	w.t.Helper()
	brokers := map[string]queuedriver.Driver{"nats": natsqueue.Driver}
	var sides []*queue.Queue
	for _, name := range []string{"/in", "/out"} {
		q, err := queue.Open(w.ctx(), base+name, brokers, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		defer q.Close(w.ctx()) //nolint:errcheck // all was confirmed
		sides = append(sides, q)
	}
	if err := sides[0].Send(w.ctx(), queue.Message{Body: []byte(request)}); err != nil {
		w.t.Fatal(err)
	}
	list, err := sides[1].Receive(w.ctx(), 1)
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := list[0].Body(w.ctx())
	if err == nil {
		err = list[0].Ack(w.ctx())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return string(body)
}

// Hosts that reach this machine by themselves want no tunnel.
func TestDirect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	c := w.cluster("direct", 1)
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(sshdtest.FreePort(t)))
	no := false
	c.SSH.Server, c.SSH.Tunnel = at, &no
	w.up(c)
	w.well(c)
	if got := w.answers(c.Name, "hello"); got[0] != "hello" {
		t.Errorf("it answers %q", got)
	}
	all := strings.Join(commands(hostDir(w.net.Hosts[0], c.Name)), "\n")
	if !strings.Contains(all, "--join "+at) || w.observed(c.Name)["tunnel tunnel"].Health != "" {
		t.Errorf("it does not join %s: %s", at, all)
	}
}

// A server whose port somebody else has when it is to run again gets another one, and workers
// find it there after one apply, with a tunnel and without.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]string{"tunnel": "", "worker": "127.0.0.1"} { // by what else changes
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			c := w.cluster(name, 1)
			if c.SSH.Server = server; server != "" {
				c.SSH.Tunnel = new(bool)
			}
			w.up(c)
			w.well(c)
			w.takePort(c.Name)
			err := w.with(func(k *cluster.Controller) error {
				p, err := k.Plan(w.ctx(), c)
				if err == nil && !strings.Contains(describe(p), " "+name+" ") {
					t.Fatalf("it is planned: %s", describe(p))
				}
				return err
			})
			if err == nil {
				err = w.apply(c)
			}
			if err != nil {
				t.Fatal(err)
			}
			w.well(c)
			if got := w.answers(c.Name, "hello"); got[0] != "hello" {
				t.Errorf("it answers %q", got)
			}
		})
	}
}

// takePort ends the server of a cluster behind its back, and has its port.
func (w *world) takePort(name string) {
	w.t.Helper()
	var mark struct {
		Ports struct {
			GRPC int `json:"grpc"`
		} `json:"ports"`
	}
	text, err := os.ReadFile(filepath.Join(w.clusterDir(name), "cluster.json"))
	if err == nil {
		err = json.Unmarshal(text, &mark)
	}
	var m unit.Manager
	if err == nil {
		m, err = unit.OpenSupervised(filepath.Join(w.clusterDir(name), "units"), []string{navvyBinary, "cluster", "supervise"}, nil)
	}
	if err == nil {
		err = errors.Join(m.Remove(w.ctx(), "server"), m.Close())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(mark.Ports.GRPC))) //nolint:noctx // it does not wait
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = l.Close() })
}

// What a host had goes with it when it is taken out of the file, and its workers move.
func TestHostTakenOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	c := w.cluster("out", 2)
	w.up(c)
	w.well(c)
	c.SSH.Hosts = c.SSH.Hosts[:1]
	if err := w.apply(c); err != nil {
		t.Fatal(err)
	}
	w.well(c)
	if _, err := os.Stat(filepath.Join(w.net.Hosts[1].Home, ".local/state/navvy-hosted")); err == nil {
		t.Error("there is something left on the host")
	}
	if got := w.answers(c.Name, "a", "b"); len(got) != 2 {
		t.Errorf("it answers %q", got)
	}
}

// Fifty hosts are called side by side: one that is dead, and one that says nothing, are told, and
// cost their own time once for each command, with all that is on them; the others get what is
// theirs.
func TestFifty(t *testing.T) {
	t.Parallel()
	const live = 48
	w := newWorld(t, live)
	program := filepath.Join(t.TempDir(), "navvy") // what runs there does not matter here
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.program = program
	c := w.cluster("fifty", 2*(live+2))
	c.Queue = config.Queue{Kind: config.QueueNATS, Request: "in", Response: "out", URL: &config.Value{Text: "nats://" + natstest.Start(t, nil).Addr}, Lease: config.Duration(10 * time.Second)}
	silent := openHole(t, "127.0.0.1:0")
	t.Cleanup(silent.close)
	hole, closed := w.net.User+"@"+silent.l.Addr().String(), w.net.User+"@127.0.0.1:"+strconv.Itoa(sshdtest.FreePort(t))
	c.SSH.Hosts = append(c.SSH.Hosts, hole, closed)
	t.Cleanup(func() { w.destroy(c.Name) })
	step := func(what string, do func(k *cluster.Controller) error, dead ...string) {
		began, before := time.Now(), silent.calls.Load()
		err := w.with(do)
		t.Logf("%s: %s", what, time.Since(began))
		var failed []string
		if e, is := errors.AsType[*cluster.FailedError](err); is {
			for i := range e.Failed {
				failed = append(failed, e.Failed[i].Change.Name)
			}
		} else if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		slices.Sort(failed)
		slices.Sort(dead)
		if n := silent.calls.Load() - before; !slices.Equal(failed, dead) || n != 1 {
			t.Errorf("%s: %q failed, and not %q; the silent one was called %d times", what, failed, dead, n)
		}
	}
	step("apply", func(k *cluster.Controller) error { _, err := k.Apply(w.ctx(), c); return err }, hole, closed)
	step("status", func(k *cluster.Controller) error { return w.fifty(k, c.Name, 2*live, hole, closed) })
	// The last two hosts get no second worker, the last one none at all.
	step("scale", func(k *cluster.Controller) error { _, err := k.Scale(w.ctx(), c.Name, live+1); return err }, hole)
	step("status", func(k *cluster.Controller) error { return w.fifty(k, c.Name, live, hole) })
	step("destroy", func(k *cluster.Controller) error { _, err := k.Destroy(w.ctx(), c.Name); return err })
}

// fifty looks whether hosts have so many workers, and which ones nobody knows anything of.
func (w *world) fifty(k *cluster.Controller, name string, workers int, dead ...string) error {
	s, err := k.Status(w.ctx(), name)
	if err != nil {
		return err
	}
	var unknown []string
	for i := range s.Resources {
		switch r := &s.Resources[i]; {
		case r.Health == driver.HealthUnknown:
			unknown = append(unknown, r.Name)
		case r.Kind == "worker":
			workers--
		case r.Health != driver.HealthOK:
			w.t.Errorf("%s is %s: %s", r.ID, r.Health, r.Detail)
		}
	}
	slices.Sort(unknown)
	slices.Sort(dead)
	if workers != 0 || !slices.Equal(unknown, dead) {
		w.t.Errorf("%d workers are not there, and nobody knows how %q are", workers, unknown)
	}
	return nil
}

// Hosts that get navvy itself side by side, and the tunnels, answer.
func TestEight(t *testing.T) {
	t.Parallel()
	const hosts, requests = 8, 64
	w := newWorld(t, hosts)
	c := w.cluster("eight", hosts)
	began := time.Now()
	w.up(c)
	t.Logf("made in %s", time.Since(began))
	w.well(c)
	t.Logf("well in %s", time.Since(began))
	want := make([]string, requests)
	for i := range want {
		want[i] = fmt.Sprintf("request %02d", i)
	}
	got := w.answers(c.Name, want...)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the answers are %q", got)
	}
	for _, h := range w.net.Hosts {
		if len(commands(hostDir(h, c.Name)+"/")) == 0 {
			t.Errorf("nothing runs on %s", h.Name())
		}
	}
}
