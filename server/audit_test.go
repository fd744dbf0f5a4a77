package server_test

import (
	"strings"
	"testing"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// What an administrator does leaves one line, which says what or whom it was about,
// and nothing that is secret.
func TestActionsSayWhatTheyAreAbout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	admin := w.as(t, "root", auth.RoleAdmin)
	key, err := auth.NewKey(auth.Ed25519)
	must(t, err)
	issued, err := admin.Issue(t.Context(), key, "cat", auth.RoleUser, 0)
	must(t, err)
	cert, err := issued.Parsed()
	must(t, err)
	number := auth.Serial(cert.SerialNumber)
	_, err = admin.Revoke(t.Context(), client.RevokeOptions{Name: "cat"})
	must(t, err)
	joining, token, err := admin.CreateToken(t.Context(), 0, 1)
	must(t, err)
	calling, own, err := admin.CreateAPIToken(t.Context(), 0)
	must(t, err)
	must(t, admin.RevokeToken(t.Context(), token.ID))
	_, err = admin.SetQueue(t.Context(), "gpu", client.QueueChange{Create: true})
	must(t, err)
	must(t, admin.RemoveQueue(t.Context(), "gpu"))
	if admin.DrainWorker(t.Context(), "w1") == nil || admin.RemoveWorker(t.Context(), "w1") == nil {
		t.Fatal("there is a worker w1")
	}
	actions := w.audit.find(t, "admin action")
	for i, want := range []map[string]any{
		{"method": "/navvy.v1.Identity/Issue", "certificate": "cat", "certificate_role": "user", "certificate_serial": number},
		{"method": "/navvy.v1.Identity/Revoke", "certificate": "cat", "certificate_serial": number},
		{"method": "/navvy.v1.Identity/CreateToken", "token_id": token.ID},
		{"method": "/navvy.v1.Identity/CreateAPIToken", "token_id": own.ID},
		{"method": "/navvy.v1.Identity/RevokeToken", "token_id": token.ID},
		{"method": "/navvy.v1.Queues/Set", "queue": "gpu"},
		{"method": "/navvy.v1.Queues/Remove", "queue": "gpu"},
		{"method": "/navvy.v1.Fleet/Drain", "worker": "w1", "failed": `worker "w1": not found`},
		{"method": "/navvy.v1.Fleet/Remove", "worker": "w1", "failed": `worker "w1": not found`},
	} {
		if i >= len(actions) {
			t.Fatalf("%d lines: %v", len(actions), actions)
		}
		checkAction(t, actions[i], want)
	}
	for _, secret := range []string{joining, calling} {
		if strings.Contains(w.audit.text(), secret) {
			t.Error("a token is in the log")
		}
	}
	dan := w.as(t, "dan", auth.RoleUser)
	if _, err := dan.Renew(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if lines := w.audit.find(t, "certificate renewed"); len(lines) != 1 || lines[0]["certificate"] != "dan" || lines[0]["certificate_serial"] == lines[0]["renews"] {
		t.Errorf("of a renewal: %v", lines)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// checkAction holds a line against what it is to say.
func checkAction(t *testing.T, line, want map[string]any) {
	t.Helper()
	for key, value := range want {
		if line[key] != value {
			t.Errorf("%s is %v, want %v: %v", key, line[key], value, line)
		}
	}
	if _, failed := line["failed"]; failed != (want["failed"] != nil) {
		t.Errorf("line %v", line)
	}
}
