// Package servicebustest starts a stand-in of Azure Service Bus for tests: a small broker of
// our own that speaks AMQP 1.0 and as much of Azure's management as makes queues. It proves
// what the driver asks for and how it takes the answers, not how Azure behaves. It is a
// program of node's on the library rhea, which scripts/check.sh installs.
package servicebustest

import (
	"bufio"
	"bytes"
	"embed"
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

//go:embed standin/*.js
var program embed.FS

const patience = 60 * time.Second

// The stand-in's keys, by their names: Root may do everything, Sender and Listener what
// their names say.
const (
	Root     = "Root;SharedAccessKey=cm9vdA=="
	Sender   = "Sender;SharedAccessKey=c2VuZGVy"
	Listener = "Listener;SharedAccessKey=bGlzdGVuZXI="
)

// Broker is a stand-in that runs.
type Broker struct {
	address, journal string
	cmd              *exec.Cmd
	exited           chan error // closed after
}

// Modules is the folder of node's modules, with rhea and Microsoft's client. Where they are
// missing the test skips, and fails in CI.
func Modules(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("NAVVY_SERVICEBUS_DIR")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "navvy-servicebus")
	}
	dir = filepath.Join(dir, "node_modules")
	_, err := os.Stat(filepath.Join(dir, "rhea"))
	if err == nil {
		_, err = exec.LookPath("node")
	}
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatalf("the stand-in of Service Bus cannot run, and CI must not skip its tests: %v", err)
	case err != nil:
		t.Skipf("the stand-in of Service Bus cannot run: see servicebus in scripts/check.sh: %v", err)
	}
	return dir
}

// Start starts a stand-in that ends with the test. Its queues are in memory.
func Start(t testing.TB) *Broker {
	t.Helper()
	return start(t, "")
}

// StartOnDisk starts a stand-in that can be killed and started again.
func StartOnDisk(t testing.TB) *Broker {
	t.Helper()
	return start(t, filepath.Join(t.TempDir(), "journal"))
}

// start starts the stand-in for the first time. It ends after all that the test opens later.
func start(t testing.TB, journal string) *Broker {
	t.Helper()
	b := &Broker{address: "127.0.0.1:0", journal: journal}
	t.Cleanup(func() {
		if b.cmd == nil {
			return
		}
		_ = b.cmd.Process.Kill() // it may have ended
		for range b.exited {     // until it is closed
		}
	})
	b.Restart(t)
	return b
}

// Restart starts the stand-in again, where it was, with what it had.
func (b *Broker) Restart(t testing.TB) {
	t.Helper()
	modules := Modules(t)
	_, port, err := net.SplitHostPort(b.address)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{filepath.Join(unpack(t), "standin", "main.js"), port}
	if b.journal != "" {
		args = append(args, b.journal)
	}
	cmd := exec.Command("node", args...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	b.cmd, b.exited = cmd, exited
	address, read := make(chan string, 1), make(chan bool)
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if at, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
				address <- at
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
	case b.address = <-address:
	case err := <-exited:
		t.Fatalf("the stand-in ended: %v: %s", err, said.String())
	case <-time.After(patience):
		t.Fatal("the stand-in does not start")
	}
}

// unpack writes the program to a folder.
func unpack(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, fs.FS(program)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Kill ends the stand-in without warning.
func (b *Broker) Kill(t testing.TB) {
	t.Helper()
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-b.exited:
		if err == nil {
			t.Fatal("the stand-in had ended by itself")
		}
	case <-time.After(patience):
		t.Fatal("the stand-in does not end")
	}
}

// Faults is how a stand-in misbehaves next.
type Faults struct {
	// Busy is how many sends, settlements and requests are refused since it is busy.
	Busy int `json:"busy"`
	// Cut is how many settlements are done, and the connection cut instead of an answer.
	Cut int `json:"cut"`
}

// Misbehave has the stand-in misbehave.
func (b *Broker) Misbehave(t testing.TB, f Faults) {
	t.Helper()
	body, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+b.address+"/$standin", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%d, %v", answer.StatusCode, err)
	}
}

// Address is HOST:PORT, which stands for the namespace.
func (b *Broker) Address() string { return b.address }

// ConnectionString is one whose key may do everything.
func (b *Broker) ConnectionString() string { return b.ConnectionStringWith(Root) }

// ConnectionStringWith has another key.
func (b *Broker) ConnectionStringWith(key string) string {
	return "Endpoint=sb://" + b.address + ";SharedAccessKeyName=" + key + ";UseDevelopmentEmulator=true"
}
