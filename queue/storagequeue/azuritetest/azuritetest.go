// Package azuritetest starts Azurite, Microsoft's emulator of Azure Storage, for tests. It
// is a program of node's, which scripts/check.sh installs.
package azuritetest

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Account is that of each emulator. Its key is known to everybody.
const (
	Account = "devstoreaccount1"
	Key     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

const patience = 60 * time.Second

// Azurite is an emulator that runs.
type Azurite struct {
	service string // queue or blob
	address string
	args    []string
	cmd     *exec.Cmd
	exited  chan error // closed after
}

// Modules is the folder of node's modules, with the emulator and Microsoft's client. Where
// they are missing the test skips, and fails in CI.
func Modules(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("NAVVY_AZURITE_DIR")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "navvy-azurite")
	}
	dir = filepath.Join(dir, "node_modules")
	_, err := os.Stat(filepath.Join(dir, "azurite"))
	if err == nil {
		_, err = exec.LookPath("node")
	}
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatalf("there is no Azurite, and CI must not skip its tests: %v", err)
	case err != nil:
		t.Skipf("there is no Azurite: see azurite in scripts/check.sh: %v", err)
	}
	return dir
}

// Start starts an emulator that ends with the test. Its queues are in memory.
func Start(t testing.TB) *Azurite {
	t.Helper()
	a := &Azurite{service: "queue", address: "127.0.0.1:0"}
	a.start(t, "--inMemoryPersistence")
	return a
}

// StartBlob is Start for an emulator of Blob storage.
func StartBlob(t testing.TB) *Azurite {
	t.Helper()
	a := &Azurite{service: "blob", address: "127.0.0.1:0"}
	a.start(t, "--inMemoryPersistence")
	return a
}

// StartOnDisk starts an emulator that can be stopped and started again.
func StartOnDisk(t testing.TB) *Azurite {
	t.Helper()
	a := &Azurite{service: "queue", address: "127.0.0.1:0"}
	a.start(t, "--location", t.TempDir())
	return a
}

var listens = regexp.MustCompile(`successfully listens on http://(\S+)`)

// start starts the emulator for the first time. It ends after all that the test opens later.
func (a *Azurite) start(t testing.TB, args ...string) {
	t.Helper()
	a.args = args
	t.Cleanup(func() {
		if a.cmd == nil {
			return
		}
		_ = a.cmd.Process.Kill() // it may have ended
		for range a.exited {     // until it is closed
		}
	})
	a.Restart(t)
}

// Restart starts the emulator again, where it was, with what it had.
func (a *Azurite) Restart(t testing.TB) {
	t.Helper()
	modules := Modules(t)
	host, port, err := net.SplitHostPort(a.address)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(modules, "azurite", "dist", "src", a.service, "main.js")
	args := append([]string{program, "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--" + a.service + "Host", host, "--" + a.service + "Port", port}, a.args...)
	cmd := exec.Command("node", args...)
	cmd.Dir = t.TempDir()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	a.cmd, a.exited = cmd, exited
	address, read := make(chan string, 1), make(chan bool)
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if m := listens.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
				break
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	go func() {
		<-read
		exited <- cmd.Wait()
		close(exited)
	}()
	select {
	case a.address = <-address:
	case err := <-exited:
		t.Fatalf("Azurite ended: %v: %s", err, said.String())
	case <-time.After(patience):
		t.Fatal("Azurite does not start")
	}
}

// Stop ends the emulator, which cuts its connections. It is asked to end, since Azurite
// writes to its disk every five seconds only, and so would forget what it has confirmed,
// which Azure does not.
func (a *Azurite) Stop(t testing.TB) {
	t.Helper()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-a.exited:
		if err != nil {
			t.Fatalf("Azurite ended badly: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Azurite does not end")
	}
}

// Endpoint is the URL of the account's queues, or of its containers.
func (a *Azurite) Endpoint() string { return "http://" + a.address + "/" + Account }

// ConnectionString is that of the account.
func (a *Azurite) ConnectionString() string { return a.ConnectionStringWith(Key) }

// ConnectionStringWith has another key.
func (a *Azurite) ConnectionStringWith(key string) string {
	service := strings.ToUpper(a.service[:1]) + a.service[1:]
	return "DefaultEndpointsProtocol=http;AccountName=" + Account + ";AccountKey=" + key + ";" + service + "Endpoint=" + a.Endpoint() + ";"
}
