package local_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/driver/drivertest"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
)

// The suite of all providers, with real servers, workers and supervisors.
func TestConformance(t *testing.T) {
	t.Parallel()
	state, secrets := t.TempDir(), t.TempDir()
	nats := "nats://" + natstest.Start(t, nil).Addr
	const secret = "suite-hush-hush"
	write(t, filepath.Join(secrets, "a"), secret+"\n", 0o600)
	write(t, filepath.Join(secrets, "b"), "another one\n", 0o600)
	at := func(name string) string { return filepath.Join(state, "navvy-clusters", name) }
	drivertest.Run(t, &drivertest.Harness{
		Open: func(t testing.TB) driver.Driver { return open(t, state) },
		Cluster: func(_ testing.TB, name string, workers int, variant string) *config.Cluster {
			c := echoes(name, workers)
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
			m, err := unit.OpenSupervised(filepath.Join(at(name), "units"), []string{navvyBinary, "cluster", "supervise"}, nil)
			if err == nil {
				err = m.Remove(t.Context(), "worker-001")
			}
			if err != nil {
				t.Fatal(err)
			}
			return driver.ID{Kind: "worker", Name: "worker-001"}
		},
		Foreign: func(t testing.TB, name string) (driver.ID, func() bool) {
			diary := filepath.Join(at(name), "diary")
			if err := os.MkdirAll(at(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(diary, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			return driver.ID{Kind: driver.KindCluster, Name: name}, func() bool {
				text, err := os.ReadFile(diary)
				entries, _ := os.ReadDir(at(name))
				return err == nil && string(text) == "mine" && len(entries) == 1
			}
		},
		Hold: func(t testing.TB, name string) driver.ID {
			withClient(t, filepath.Join(at(name), "server"), func(c *client.Client) error {
				_, err := c.Messages("requests").Send(t.Context(), []client.OutMessage{{Body: []byte("x")}}, client.SendOptions{})
				return err
			})
			return driver.ID{Kind: "queue", Name: "requests"}
		},
		Another: func(_ testing.TB, c *config.Cluster) {
			c.Queue = config.Queue{Kind: config.QueueNATS, Request: "in", Response: "out", URL: &config.Value{Text: nats}}
		},
		Left: func(_ testing.TB, name string) (list []string) {
			for _, one := range left(state) {
				if strings.Contains(one, "/"+name+"/") || strings.HasSuffix(one, "/"+name) || strings.HasSuffix(one, "/."+name+".lock") {
					list = append(list, one)
				}
			}
			return append(list, commands(at(name)+"/")...)
		},
		Secret: secret, Patience: patience, Serial: true,
	})
}

// commands lists what runs with a text in its arguments.
func commands(text string) (list []string) {
	for _, pid := range processes(text) {
		if line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")); err == nil {
			list = append(list, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return list
}
