package kubernetes

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
)

var update = flag.Bool("update", false, "write the golden files")

// What another provider's workers are compiled to, with no secret in what is compared or kept. What is
// late is in no Secret yet.
func TestGuestsGolden(t *testing.T) {
	t.Parallel()
	const secret = "of-a-service"
	c := parsed(t, &config.Cluster{
		Version: config.Version, Name: "demo", Provider: config.ProviderKubernetes, Dir: "testdata",
		Queue:      config.Queue{Kind: config.QueueServiceBus, Request: "in", Response: "out", URL: &config.Value{Text: "azservicebus:///"}},
		Service:    config.Service{Kind: config.ServiceCGI, Command: "/data/answer"},
		Workers:    config.Workers{Count: 3, Image: "local.test/navvy:1", CPUs: "0.5", Memory: "64M", Environment: map[string]config.Value{"KEY": {Env: "SECRET"}}},
		Kubernetes: &config.Kubernetes{Namespace: "space"},
	})
	g := &Guests{
		Args: []string{"--must-exist"}, Contents: "sum",
		Secrets: []GuestSecret{{Name: "keys", Late: []string{"CONNECTION"}, Environment: true}, {Name: "share-0", Data: map[string]string{"account": secret}, Late: []string{"key"}}},
		Beside:  []map[string]any{{"name": "helper", "image": "local.test/helper:1"}},
		Volumes: []GuestVolume{{At: "/data", Source: map[string]any{"csi": map[string]any{"driver": "files.test"}}}},
	}
	o := &Options{Getenv: func(string) string { return secret }}
	compile := func() []byte {
		list, err := CompileGuests(c, []byte("0123456789abcdef"), o, g)
		if err != nil {
			t.Fatal(err)
		}
		var all []any
		for _, r := range list {
			p := r.Spec.(*part)
			if text := describe(t, list); strings.Contains(text, secret) {
				t.Errorf("a secret is in %s", text)
			}
			all = append(all, map[string]any{"id": r.ID.String(), "properties": r.Properties, "object": p.object.Object})
		}
		text, err := json.MarshalIndent(all, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		return append(text, '\n')
	}
	got, path := compile(), filepath.Join("testdata", "guests.golden.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (go test -run GuestsGolden -update writes it): %s", path, diff)
	}
	for range 5 {
		if again := compile(); string(again) != string(got) {
			t.Fatalf("compiled twice it differs: %s", cmp.Diff(string(got), string(again)))
		}
	}
	g.Volumes[0].At = "/tmp/x"
	if _, err := CompileGuests(c, nil, o, g); !errors.Is(err, navvy.ErrUnsupported) || !strings.Contains(err.Error(), "share[0].at") {
		t.Errorf("a volume in a worker's own directory: %v", err)
	}
}

// A kubeconfig that comes from elsewhere starts no program here, and reads no file.
func TestOpenGuestRefuses(t *testing.T) {
	t.Parallel()
	good := `
clusters: [{name: a, cluster: {server: "https://127.0.0.1:1", certificate-authority-data: ""}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
users: [{name: a, user: {token: t}}]
`
	g, err := OpenGuest([]byte(good), &Options{Namespace: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	for change, want := range map[string]error{
		"token: t => exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true, interactiveMode: Never}": navvy.ErrUnsupported,
		"token: t => auth-provider: {name: gcp}":                           navvy.ErrUnsupported,
		"token: t => tokenFile: /etc/passwd":                               navvy.ErrUnsupported,
		"token: t => client-certificate: /x, client-key: /y":               navvy.ErrUnsupported,
		`certificate-authority-data: "" => certificate-authority: /etc/x`:  navvy.ErrUnsupported,
		`certificate-authority-data: "" => insecure-skip-tls-verify: true`: navvy.ErrUnsupported,
		"current-context: a => current-context: b":                         navvy.ErrInvalid,
		"clusters: => clusters: }{":                                        navvy.ErrInvalid,
	} {
		is, instead, _ := strings.Cut(change, " => ")
		if _, err := OpenGuest([]byte(strings.Replace(good, is, instead, 1)), &Options{}); !errors.Is(err, want) {
			t.Errorf("%s: got %v", change, err)
		}
	}
}
