package container_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/klog/v2"

	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// What the client of Kubernetes complains about is told to the driver's logger, as a warning; that
// the cluster does not answer as it should, by the driver itself.
func TestClientLog(t *testing.T) { //nolint:paralleltest // there is one such log in a process
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "etcd is on fire", http.StatusInternalServerError)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: "` + server.URL + `"}}],
contexts: [{name: c, context: {cluster: c, user: ""}}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var said output
	d, err := container.New(&container.Options{
		Kubeconfig: file, Logger: slog.New(slog.NewTextHandler(&said, nil)),
		Render: func(*driver.Task) ([]string, error) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := d.Start(ctx, &newTrial(shell("exit 0")).task)
		ended <- err
	}()
	kubetest.Until(t, "it complains", func() bool {
		text := said.text()
		return strings.Contains(text, `level=WARN msg="the cluster cannot be reached`) && strings.Contains(text, "etcd is on fire")
	})
	klog.ErrorS(errors.New("it boils over"), "look after the pot")
	if text := said.text(); !strings.Contains(text, `level=WARN msg="the client of Kubernetes" says="look after the pot" err="it boils over"`) {
		t.Errorf("it is told %s", text)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("it has started")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
