package ssh_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/driver/drivertest"
	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
)

// The suite of all providers, with real servers, workers, supervisors and sshd.
func TestConformance(t *testing.T) {
	t.Parallel()
	w, secrets := newWorld(t, 2), t.TempDir()
	const secret = "suite-hush-hush"
	for name, text := range map[string]string{"a": secret, "b": "another one"} {
		if err := os.WriteFile(filepath.Join(secrets, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, nats := w.net.Hosts[0], "nats://"+natstest.Start(t, nil).Addr
	drivertest.Run(t, &drivertest.Harness{
		Open: func(testing.TB) driver.Driver { return w.open() },
		Cluster: func(_ testing.TB, name string, workers int, variant string) *config.Cluster {
			c := w.cluster(name, workers)
			c.Dir = secrets
			c.Workers.Environment = map[string]config.Value{"SECRET": {File: "a"}}
			switch variant {
			case "b":
				c.Workers.Concurrency = 3
			case "secret":
				c.Workers.Environment["SECRET"] = config.Value{File: "b"}
			}
			return c
		},
		Break: func(t testing.TB, name string) driver.ID {
			dir := hostDir(first, name)
			out, err := exec.Command(filepath.Join(dir, "navvy"), "cluster", "unit", "rm", filepath.Join(dir, "units"), "worker-001").CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return driver.ID{Kind: "worker", Name: "worker-001"}
		},
		Foreign: func(t testing.TB, name string) (driver.ID, func() bool) {
			dir := hostDir(first, name)
			diary := filepath.Join(dir, "diary")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(diary, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			return driver.ID{Kind: "host", Name: first.Name()}, func() bool {
				text, err := os.ReadFile(diary)
				entries, _ := os.ReadDir(dir)
				return err == nil && string(text) == "mine" && len(entries) == 1
			}
		},
		Hold: func(_ testing.TB, name string) driver.ID {
			w.send(name, "x")
			return driver.ID{Kind: "queue", Name: "requests"}
		},
		Another: func(_ testing.TB, c *config.Cluster) {
			c.Queue = config.Queue{Kind: config.QueueNATS, Request: "in", Response: "out", URL: &config.Value{Text: nats}, Lease: config.Duration(10 * time.Second)}
		},
		Left:   func(_ testing.TB, name string) []string { return w.left(name) },
		Secret: secret, Patience: patience, Serial: true,
	})
}
