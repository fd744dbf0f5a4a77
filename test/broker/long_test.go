package broker_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Work that takes many times its lease is done once, though other workers wait for it, on
// each broker whose leases have an end: three minutes on a lease of ten seconds where
// NAVVY_CRASH_TIME is set, else a tenth of that, as far as the broker's leases go.
func TestLongWork(t *testing.T) {
	t.Parallel()
	work, lease := 20*time.Second, map[string]time.Duration{"redis": 2 * time.Second, "nats": 2 * time.Second, "azqueue": 2 * time.Second, "azservicebus": 5 * time.Second}
	if os.Getenv("NAVVY_CRASH_TIME") != "" {
		work = 3 * time.Minute
		for name := range lease {
			lease[name] = 10 * time.Second
		}
	}
	for name, lease := range lease {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, dir := brokers[name](t), t.TempDir()
			script := filepath.Join(dir, "work")
			text := fmt.Sprintf("#!/bin/sh\necho run >> %s/runs\nsleep %.0f\ncat\n", dir, work.Seconds())
			if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
			// Where the queue keeps how long leases are it is whoever makes it that says so.
			if _, said, code := runWith(t, b.env, "", "queue", "recv", b.url("long"), "--lease", lease.String()); code != 0 {
				t.Fatal(said)
			}
			w := &workers{t: t, env: b.env, args: []string{
				"worker", "start", "--requests", b.url("long"), "--responses", b.url("done"), "--lease", lease.String(), "-j", "2", "--service", "cgi-raw:" + script,
			}}
			for range 3 {
				w.all = append(w.all, w.start())
			}
			failed := true
			defer func() { w.end(failed, 0) }()
			out, said, code := runWith(t, b.env, "hello\n", "map", "--queue", b.url("long"), "--responses", b.url("done"), "--patience", "5m")
			runs, err := os.ReadFile(filepath.Join(dir, "runs"))
			if failed = code != 0 || out != "hello\n" || string(runs) != "run\n"; failed {
				t.Errorf("exit code %d, %q, runs %q, %v: %s", code, out, runs, err, said)
			}
		})
	}
}

// Services that do what none should fail their requests, and nothing else: it is told what
// they did, by the worker that cannot start or by the dead letter.
func TestBadServices(t *testing.T) {
	t.Parallel()
	b := startRedis(t)
	for service, says := range map[string]string{
		"lines:sh -c 'echo no licence >&2; exit 4'": "the service died: exit code 4: no licence",
		"lines:sh -c 'echo Welcome; cat'":           "answers no request",
		"lines:/nowhere/to/be/found":                "/nowhere/to/be/found",
		"grpc-cmd:true":                             "the service died: exit code 0",
	} {
		if _, said, code := run(t, "", "worker", "start", "--requests", b.url("in"), "--responses", b.url("out"), "--service", service); code == 0 || !strings.Contains(said, says) {
			t.Errorf("%s: exit code %d: %s", service, code, said)
		}
	}
	for name, c := range map[string]struct{ script, reason string }{
		"garbage": {`while read -r line; do echo "Segmentation fault"; done`, "Segmentation fault"},
		"dies":    {`read -r line; echo bad >&2; exit 3`, "exit code 3: bad, during the request"},
	} {
		in := b.url(name)
		if _, said, code := run(t, "", "queue", "send", in, "x"); code != 0 {
			t.Fatal(said)
		}
		w := &workers{t: t, args: []string{"worker", "start", "--requests", in, "--responses", b.url("out"), "--attempts", "1", "--service", "lines-json:sh -c '" + c.script + "'"}}
		w.all = []*exec.Cmd{w.start()}
		out := ""
		for tick := time.Tick(50 * time.Millisecond); out == "" && t.Context().Err() == nil && !over(w.all[0]); <-tick {
			out, _, _ = run(t, "", "queue", "dlq", in, "-o", "jsonl")
		}
		w.end(!strings.Contains(out, c.reason), 0)
		if !strings.Contains(out, c.reason) || !strings.Contains(out, `"attempts":1`) {
			t.Errorf("%s: %s", name, out)
		}
	}
	// Whoever answers twice has answered once.
	w := &workers{t: t, args: []string{"worker", "start", "--requests", b.url("two"), "--responses", b.url("answers"), "-j", "3", "--service",
		`lines-json:python3 -uc "import sys, json` + "\n" + `for line in sys.stdin:` + "\n" + ` q = json.loads(line); print(json.dumps(dict(id=q['id'], body=q['body'].upper()))); print(json.dumps(dict(id=q['id'], body='again')))"`}}
	w.all = []*exec.Cmd{w.start()}
	out, said, code := run(t, "a\nb\nc\n", "map", "--queue", b.url("two"), "--responses", b.url("answers"), "--patience", "2m")
	w.end(out != "A\nB\nC\n", 0)
	if code != 0 || out != "A\nB\nC\n" {
		t.Errorf("answered twice: exit code %d, %q: %s", code, out, said)
	}
}
