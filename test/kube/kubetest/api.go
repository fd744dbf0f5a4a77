package kubetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// API calls the API server as somebody, in JSON. It is a client of its own, so that a test
// does not look through the eyes of what it tests.
type API struct {
	// Kubeconfig is the file with which others call as the same.
	Kubeconfig string

	url    string
	client *http.Client
}

// As makes a user of a group, which may be empty.
func (c *Cluster) As(user, group string) (*API, error) { return c.through(c.proxy, user, group) }

// Through makes a user whose way to the API server is a proxy's.
func (c *Cluster) Through(t testing.TB, p *Proxy, user, group string) *API {
	t.Helper()
	a, err := c.through(p, user, group)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	return a
}

func (c *Cluster) through(p *Proxy, user, group string) (*API, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.pki.issue(user, group); err != nil {
		return nil, err
	}
	if err := c.pki.kubeconfig(user, p.URL()); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(c.pki.path(user+".crt"), c.pki.path(user+".key"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	text, err := os.ReadFile(c.pki.path("ca.crt"))
	if err != nil {
		return nil, err
	}
	roots.AppendCertsFromPEM(text)
	return &API{
		Kubeconfig: c.pki.path(user + ".kubeconfig"), url: p.URL(),
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
			Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS13,
		}}},
	}, nil
}

func (a *API) close() { a.client.CloseIdleConnections() }

// Admin may do everything.
func (c *Cluster) Admin() *API { return c.admin }

// Do calls the API: method and path, with an object in YAML or JSON, or nothing; its answer is
// decoded into v, unless that is nil. A patch is a list of operations, or what is to be merged.
func (a *API) Do(ctx context.Context, method, path, object string, v any) error {
	var body []byte
	if object != "" {
		var err error
		if body, err = yaml.YAMLToJSON([]byte(object)); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch && bytes.HasPrefix(body, []byte("[")) {
		request.Header.Set("Content-Type", "application/json-patch+json")
	} else if method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/merge-patch+json")
	}
	answer, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, text)
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(text, v)
}

// Must is Do that must go well.
func (a *API) Must(t testing.TB, method, path, object string, v any) {
	t.Helper()
	if err := a.Do(t.Context(), method, path, object, v); err != nil {
		t.Fatal(err)
	}
}

// Until waits until something is so.
func Until(t testing.TB, what string, is func() bool) {
	t.Helper()
	begun := time.Now()
	for !is() {
		past := time.Since(begun)
		if past > Patience {
			t.Fatalf("not within %s: %s", Patience, what)
		}
		<-time.After(min(max(past/lookShare, firstLook), longestLook))
	}
}

// Between two looks a test waits for a share of what it has waited for already: looking takes the
// processors from what it waits for.
const (
	lookShare   = 10
	firstLook   = 20 * time.Millisecond
	longestLook = 250 * time.Millisecond
)

// Namespace makes a namespace that goes when the test ends, with all that is in it.
func (c *Cluster) Namespace(t testing.TB) string {
	t.Helper()
	c.mu.Lock()
	c.uses++
	name := fmt.Sprintf("test-%d", c.uses)
	c.mu.Unlock()
	c.admin.Must(t, http.MethodPost, "/api/v1/namespaces", `{metadata: {name: `+name+`}}`, nil)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		if err := c.admin.Do(ctx, http.MethodDelete, "/api/v1/namespaces/"+name, "", nil); err != nil {
			t.Error(err)
		}
	})
	// Pods are refused until the namespace has its account.
	Until(t, "the namespace has an account", func() bool {
		return c.admin.Do(t.Context(), http.MethodGet, "/api/v1/namespaces/"+name+"/serviceaccounts/default", "", nil) == nil
	})
	return name
}

// nodeReady waits until the node takes pods.
func (c *Cluster) nodeReady(ctx context.Context) error {
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	for {
		err := c.admin.Do(ctx, http.MethodGet, "/api/v1/nodes/"+Node, "", &node)
		for _, condition := range node.Status.Conditions {
			if condition.Type == "Ready" && condition.Status == "True" {
				return nil
			}
		}
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("the node is not ready: %v", node.Status.Conditions), err)
		}
		tick()
	}
}

// Object is an object as the API server has it, in JSON, or why it is not known: for a test
// that tells of its failure, also when it ends.
func (c *Cluster) Object(path string) []byte {
	const bound = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	var object json.RawMessage
	if err := c.admin.Do(ctx, http.MethodGet, path, "", &object); err != nil {
		return []byte(err.Error())
	}
	return object
}

// Calls are what a user has asked of the API server so far, as its audit log has it: verb and
// resource, as in "create jobs" or "get pods/log", and how often each. What the server had no
// time for is not among them.
func (c *Cluster) Calls(t testing.TB, user string) map[string]int {
	t.Helper()
	text, err := os.ReadFile(c.pki.path("audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	for line := range strings.Lines(string(text)) {
		var event struct {
			Verb      string
			User      struct{ Username string }
			ObjectRef struct{ Resource, Subresource string }

			ResponseStatus struct{ Code int }
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil || event.User.Username != user {
			continue // a line may be being written
		}
		if event.ResponseStatus.Code == http.StatusTooManyRequests {
			continue // the server had no time, and did nothing; the client asks again
		}
		if event.ObjectRef.Resource == "" {
			continue // such as the server's version, of which roles say nothing
		}
		what := event.Verb + " " + event.ObjectRef.Resource
		if s := event.ObjectRef.Subresource; s != "" {
			what += "/" + s
		}
		calls[what]++
	}
	return calls
}
