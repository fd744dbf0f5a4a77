// Package kubesecret writes Secrets of Kubernetes from inside a pod, with the rights of its
// service account. It patches Secrets that are there, and reads none: the right to patch
// those by name is all that it needs.
package kubesecret

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
)

// AccountDir is where a pod finds its service account.
const AccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// Writer writes Secrets of one namespace. Its methods may be called at once.
type Writer struct {
	url, namespace, dir string
	client              *http.Client
}

// Open finds the API server as a pod is told of it: by KUBERNETES_SERVICE_HOST and
// KUBERNETES_SERVICE_PORT in the environment, and the service account in a directory, usually
// AccountDir. It sends nothing. The error wraps navvy.ErrUnsupported outside a pod.
func Open(env func(string) string, dir string) (*Writer, error) {
	host, port := env("KUBERNETES_SERVICE_HOST"), env("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, fmt.Errorf("kubernetes: this is no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: %w", navvy.ErrUnsupported)
	}
	namespace, err := os.ReadFile(filepath.Join(dir, "namespace"))
	if err != nil {
		return nil, fmt.Errorf("kubernetes: the pod has no service account: %w: %w", err, navvy.ErrUnsupported)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("kubernetes: the pod has no service account: %w: %w", err, navvy.ErrUnsupported)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("kubernetes: %s holds no certificate: %w", filepath.Join(dir, "ca.crt"), navvy.ErrInvalid)
	}
	return &Writer{
		url: "https://" + net.JoinHostPort(host, port), namespace: strings.TrimSpace(string(namespace)), dir: dir,
		// A connection for each of the few calls: nothing is kept between them.
		client: &http.Client{Timeout: callTimeout, Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		}},
	}, nil
}

const (
	callTimeout = 30 * time.Second
	maxAnswer   = 64 << 10
)

// Set gives keys of a Secret other values; its other keys stay. The error wraps
// navvy.ErrNotFound if there is no such Secret, navvy.ErrDenied if the account may not write
// it, and navvy.ErrUnavailable if the API server cannot be reached.
func (w *Writer) Set(ctx context.Context, name string, values map[string][]byte) error {
	if err := w.patch(ctx, name, values); err != nil {
		return fmt.Errorf("kubernetes: write Secret %s in namespace %s: %w", name, w.namespace, err)
	}
	return nil
}

func (w *Writer) patch(ctx context.Context, name string, values map[string][]byte) error {
	body, err := json.Marshal(map[string]any{"data": values})
	if err != nil {
		return err
	}
	// The account's token is renewed while we run.
	token, err := os.ReadFile(filepath.Join(w.dir, "token"))
	if err != nil {
		return err
	}
	at := w.url + "/api/v1/namespaces/" + url.PathEscape(w.namespace) + "/secrets/" + url.PathEscape(name)
	request, err := http.NewRequestWithContext(ctx, http.MethodPatch, at, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/merge-patch+json")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "navvy")
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	answer, err := w.client.Do(request)
	if err != nil {
		return errors.Join(err, navvy.ErrUnavailable)
	}
	defer func() { _ = answer.Body.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return errors.Join(err, navvy.ErrUnavailable)
	}
	return refused(answer.StatusCode, text)
}

// refused is what an answer means; nil for one that says that it was done. What the API
// server says of a Secret that was written is in the same body as an error's words: only
// those of an error are told.
func refused(code int, text []byte) error {
	if code/100 == 2 {
		return nil
	}
	var status struct{ Message string }
	if err := json.Unmarshal(text, &status); err != nil || status.Message == "" {
		status.Message = http.StatusText(code)
	}
	sentinel := navvy.ErrUnavailable
	switch code {
	case http.StatusNotFound:
		sentinel = navvy.ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		sentinel = navvy.ErrDenied
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		sentinel = navvy.ErrInvalid
	}
	return fmt.Errorf("%s: %w", navvy.Shorten(status.Message), sentinel)
}
