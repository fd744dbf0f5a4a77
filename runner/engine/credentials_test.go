package engine_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log" //nolint:depguard // what the registry takes
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/engine"
	"github.com/navvy-run/navvy/runner/engine/enginetest"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// The account that the registry of tests knows.
const registryUser, registryPassword = "ann", "s3cret-of-ann"

// private starts a registry in the engine's network that lets in one account, and gives the name of
// an image there.
func private(t *testing.T, e *enginetest.Engine) (image string) {
	t.Helper()
	open := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	l := e.Listen(t)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != registryUser || password != registryPassword {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		open.ServeHTTP(w, r)
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // ends with Close
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	image = l.Addr().String() + "/private/shell:1"
	push(t, open, image)
	return image
}

// push puts the image of tests into a registry, as somebody who is let in.
func push(t *testing.T, into http.Handler, image string) {
	t.Helper()
	archive, err := kubetest.Archive()
	if err != nil {
		t.Fatal(err)
	}
	from, err := name.NewTag(enginetest.Image)
	if err != nil {
		t.Fatal(err)
	}
	made, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }, &from)
	if err != nil {
		t.Fatal(err)
	}
	here := httptest.NewServer(into)
	defer here.Close()
	_, path, _ := strings.Cut(image, "/")
	to, err := name.ParseReference(here.Listener.Addr().String() + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	if err := remote.Write(to, made, remote.WithTransport(transport), remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// config writes a configuration of Docker's command line, and gives its directory.
func config(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// auths is a configuration with an account.
func auths(registry, user, password string) string {
	return fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, registry, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

// An image of a registry that wants to know who asks is pulled with the account of docker login.
// Without one, or with a wrong one, the task fails at once, and is told what would help; no word of a
// secret is said.
func TestCredentials(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		image := private(t, w.at(t))
		registry, _, _ := strings.Cut(image, "/")
		s := shell("echo pulled")
		s.Container.Image = image
		for _, c := range []struct{ dir, says string }{
			{"", "docker login by DOCKER_CONFIG"},
			{config(t, auths("elsewhere.example", registryUser, registryPassword)), "there are no credentials for it in"},
			{config(t, auths(registry, registryUser, "wrong-secret")), image},
		} {
			_, err := w.open(t, instance(), engine.Options{Credentials: c.dir}).Start(t.Context(), &newTrial(s).task)
			refusal, ok := errors.AsType[*driver.Refusal](err)
			if !ok || refusal.Reason != navvy.ReasonImage || !strings.Contains(refusal.Message, c.says) || strings.Contains(refusal.Message, "secret") {
				t.Errorf("with %q it says %v, want %q", c.dir, err, c.says)
			}
		}
		d := w.open(t, instance(), engine.Options{Credentials: config(t, auths(registry, registryUser, registryPassword))})
		r, end, err := run(t, d, s)
		if err != nil || end.Exit != (navvy.Exit{}) || end.Refusal != nil || r.out.text() != "pulled\n" {
			t.Errorf("it ended as %+v, %v, with output %q", end, err, r.out.text())
		}
		d.Settled(r.task.Token)
	})
}

// A program that keeps credentials is asked, as docker login would have it; one that fails is none.
func TestCredentialHelper(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	script := "#!/bin/sh\nread server\n[ \"$1\" = get ] && echo '{\"ServerURL\": \"x\", \"Username\": \"" + registryUser + "\", \"Secret\": \"" + registryPassword + "\"}'\n"
	for name, text := range map[string]string{"good": script, "bad": "#!/bin/sh\nexit 1\n"} {
		if err := os.WriteFile(filepath.Join(bin, "docker-credential-"+name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	each(t, func(t *testing.T, w *world) {
		image := private(t, w.at(t))
		registry, _, _ := strings.Cut(image, "/")
		s := shell("echo pulled")
		s.Container.Image = image
		bad := w.open(t, instance(), engine.Options{Credentials: config(t, `{"credsStore": "bad"}`)})
		if _, err := bad.Start(t.Context(), &newTrial(s).task); err == nil || !strings.Contains(err.Error(), "no credentials for it") {
			t.Errorf("it says %v", err)
		}
		d := w.open(t, instance(), engine.Options{Credentials: config(t, fmt.Sprintf(`{"credsStore": "bad", "credHelpers": {%q: "good"}}`, registry))})
		r, end, err := run(t, d, s)
		if err != nil || end.Exit != (navvy.Exit{}) || r.out.text() != "pulled\n" {
			t.Errorf("it ended as %+v, %v, with output %q", end, err, r.out.text())
		}
		d.Settled(r.task.Token)
	})
}
