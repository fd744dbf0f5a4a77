// Package insights_test sends what a worker traces through a real OpenTelemetry Collector,
// with the configuration that workers on Azure have beside them, and looks at what comes out
// at the end that is Application Insights there.
package insights_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/queue/redisqueue/redistest"
	"github.com/navvy-run/navvy/test/lifetest"
)

var navvy string

func TestMain(m *testing.M) {
	os.Exit(lifetest.RunWithNavvy(m, func(path string) { navvy = path }))
}

// collectorPath is the collector that scripts/check.sh builds of tools/collector.
func collectorPath(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "navvy-collector", "collector")
	_, err = os.Stat(path)
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatalf("there is no collector, and CI must not skip its tests: %v", err)
	case err != nil:
		t.Skipf("there is no collector: see collector in scripts/check.sh: %v", err)
	}
	return path
}

// item is what Application Insights get of one operation, as far as it matters here.
type item struct {
	Tags struct {
		Role      string `json:"ai.cloud.role"`
		Instance  string `json:"ai.cloud.roleInstance"`
		Operation string `json:"ai.operation.id"`
		Parent    string `json:"ai.operation.parentId"`
	}
	Data struct {
		BaseType string
		BaseData struct {
			Name, ID   string
			Success    bool
			Properties map[string]string
		}
	}
}

// insights stand in for Application Insights: they take items, as its endpoint does.
type insights struct {
	t     *testing.T
	mu    sync.Mutex
	items []item
}

// ServeHTTP takes items, a line of JSON each, and answers that it has them.
func (in *insights) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(body); err != nil {
			in.t.Error(err)
			return
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	n := 0
	for decoder := json.NewDecoder(body); decoder.More(); n++ {
		var i item
		if err := decoder.Decode(&i); err != nil {
			in.t.Error(err)
			return
		}
		in.items = append(in.items, i)
	}
	if _, err := fmt.Fprintf(w, `{"itemsReceived": %d, "itemsAccepted": %d, "errors": []}`, n, n); err != nil {
		in.t.Error(err)
	}
}

// have waits for as many items.
func (in *insights) have(n int) []item {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), 2*time.Minute)
	defer cancel()
	tries := pause.Series{First: 10 * time.Millisecond, Longest: 200 * time.Millisecond}
	for {
		in.mu.Lock()
		items := in.items
		in.mu.Unlock()
		if len(items) >= n {
			return items
		}
		if err := tries.Wait(ctx); err != nil {
			in.t.Fatalf("there are %d items: %v", len(items), err)
		}
	}
}

// begin starts a program that ends with the test, and gives what it says on standard error.
func begin(t *testing.T, env []string, name string, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	said, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_, _ = io.Copy(t.Output(), said)
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(said)
}

// says reads what a program says up to a line with this text; false if it ends before.
func says(t *testing.T, said *bufio.Scanner, text string) bool {
	t.Helper()
	for said.Scan() {
		t.Log(said.Text())
		if strings.Contains(said.Text(), text) {
			return true
		}
	}
	return false
}

func until(t *testing.T, said *bufio.Scanner, text string) {
	t.Helper()
	if !says(t, said, text) {
		t.Fatalf("it ended, and never said %q: %v", text, said.Err())
	}
}

// startCollector starts a collector as workers on Azure have it, at a port of its own.
func startCollector(t *testing.T, end string) (endpoint string) {
	t.Helper()
	program := collectorPath(t)
	text, err := os.ReadFile("../../cluster/azure/templates/collector.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const fixed = "127.0.0.1:4318"
	if bytes.Count(text, []byte(fixed)) != 1 {
		t.Fatalf("the configuration does not listen at %s", fixed)
	}
	for range 5 { // somebody else may take a port that was free
		address := freeAddress(t)
		_, said := begin(t, []string{
			"NAVVY_COLLECTOR=" + strings.ReplaceAll(string(text), fixed, address),
			"APPLICATIONINSIGHTS_CONNECTION_STRING=InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint=" + end,
		}, program, "--config=env:NAVVY_COLLECTOR")
		if !says(t, said, "Everything is ready") {
			continue
		}
		go func() { // so that it can say more
			for said.Scan() {
				continue
			}
		}()
		return "http://" + address
	}
	t.Fatal("the collector does not start")
	return ""
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// run runs navvy to its end.
func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(navvy, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("navvy %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Each delivery is a request of Application Insights, ProcessMessage, and each call of the
// service a dependency in it, InvokeService.
func TestOperations(t *testing.T) {
	t.Parallel()
	in := &insights{t: t}
	end := httptest.NewServer(in)
	t.Cleanup(end.Close)
	endpoint := startCollector(t, end.URL+"/")
	broker := "redis://" + redistest.Start(t).Addr
	worker, said := begin(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint, "OTEL_SERVICE_NAME=demo", "OTEL_RESOURCE_ATTRIBUTES=service.instance.id=demo-1"},
		navvy, "worker", "start", "--requests", broker+"/requests", "--responses", broker+"/responses",
		"--service", `cgi-raw:sh -c 'read -r x; test "$x" != bad && echo "$TRACEPARENT"'`, "--attempts", "1", "-j", "2")
	until(t, said, "worker started")
	id := strings.TrimSpace(run(t, "queue", "send", broker+"/requests", "good"))
	parent := strings.Split(strings.TrimSpace(run(t, "queue", "recv", broker+"/responses", "-n", "1")), "-")
	run(t, "queue", "send", broker+"/requests", "bad")
	until(t, said, "dead letter")
	if err := worker.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, said, "worker ended")

	byName := map[string]item{}
	for _, i := range in.have(4) {
		byName[fmt.Sprintf("%s %s %v", i.Data.BaseType, i.Data.BaseData.Name, i.Data.BaseData.Success)] = i
	}
	for _, well := range []string{"true", "false"} {
		belongs(t, byName, well)
	}
	good := byName["RequestData ProcessMessage true"]
	if want := []string{"00", good.Tags.Operation, byName["RemoteDependencyData InvokeService true"].Data.BaseData.ID, "01"}; !cmp.Equal(parent, want) {
		t.Errorf("the program was called in %v, not %v", parent, want)
	}
	for name, want := range map[string]string{
		"messaging.message.id": id, "messaging.system": "redis", "navvy.service": "cgi-raw", "navvy.outcome": "answered", "navvy.attempt": "1",
	} {
		if got := good.Data.BaseData.Properties[name]; got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	if got := byName["RequestData ProcessMessage false"].Data.BaseData.Properties["navvy.outcome"]; got != "dead" {
		t.Errorf("what failed is %q", got)
	}
}

// belongs checks that there are a request and the call in it, both well or both not.
func belongs(t *testing.T, byName map[string]item, well string) {
	t.Helper()
	request, ok := byName["RequestData ProcessMessage "+well]
	call, ok2 := byName["RemoteDependencyData InvokeService "+well]
	if !ok || !ok2 {
		t.Fatalf("there are only %v", byName)
	}
	if request.Tags.Role != "demo" || request.Tags.Instance != "demo-1" || call.Tags.Role != "demo" {
		t.Errorf("they are of %+v and %+v", request.Tags, call.Tags)
	}
	if call.Tags.Operation != request.Tags.Operation || call.Tags.Parent != request.Data.BaseData.ID || request.Tags.Parent != "" {
		t.Errorf("the call %+v is not in the request %+v", call, request)
	}
}
