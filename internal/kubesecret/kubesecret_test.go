package kubesecret

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// account makes the files of a service account, for a server.
func account(t *testing.T, s *httptest.Server) (dir string, env func(string) string) {
	t.Helper()
	dir = t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for name, text := range map[string]string{"namespace": "here\n", "token": "first", "ca.crt": string(ca)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return dir, func(name string) string {
		return map[string]string{"KUBERNETES_SERVICE_HOST": at.Hostname(), "KUBERNETES_SERVICE_PORT": at.Port()}[name]
	}
}

// What is sent is a patch of one Secret, with the newest token. A real API server takes it
// in test/kube/chart.
func TestSet(t *testing.T) {
	t.Parallel()
	var calls []string
	answer := http.StatusOK
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls = append(calls, strings.Join([]string{r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("Authorization"), string(body)}, " "))
		w.WriteHeader(answer)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": "the server's words"})
	}))
	defer s.Close()
	dir, env := account(t, s)
	w, err := Open(env, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Set(t.Context(), "join", map[string][]byte{"token": []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("second\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for code, want := range map[int]error{
		http.StatusNotFound: navvy.ErrNotFound, http.StatusForbidden: navvy.ErrDenied,
		http.StatusServiceUnavailable: navvy.ErrUnavailable, http.StatusUnprocessableEntity: navvy.ErrInvalid,
	} {
		answer = code
		if err := w.Set(t.Context(), "join", nil); !errors.Is(err, want) || !strings.Contains(err.Error(), "Secret join in namespace here: the server's words") {
			t.Errorf("status %d: %v", code, err)
		}
	}
	if want := `PATCH /api/v1/namespaces/here/secrets/join application/merge-patch+json Bearer first {"data":{"token":"eA=="}}`; calls[0] != want {
		t.Errorf("it sent %s, want %s", calls[0], want)
	}
	if !strings.Contains(calls[1], "Bearer second ") {
		t.Errorf("it sent %s", calls[1])
	}
	s.Close()
	if err := w.Set(t.Context(), "join", nil); !errors.Is(err, navvy.ErrUnavailable) {
		t.Errorf("without a server: %v", err)
	}
}

func TestNoPod(t *testing.T) {
	t.Parallel()
	none := func(string) string { return "" }
	some := func(string) string { return "1" }
	for _, env := range []func(string) string{none, some} {
		if _, err := Open(env, t.TempDir()); !errors.Is(err, navvy.ErrUnsupported) {
			t.Errorf("outside a pod: %v", err)
		}
	}
}
