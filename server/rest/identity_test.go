package rest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// Over plain HTTP a token says who calls; without a good one nobody does.
func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	cert := w.cert(t, auth.Subject{Name: "ann", Role: auth.RoleUser})
	ann := w.grpc(t, cert)
	text, info, err := ann.CreateAPIToken(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	short, _, err := ann.CreateAPIToken(t.Context(), 1) // over already
	if err != nil {
		t.Fatal(err)
	}
	join, _, err := w.grpc(t, w.cert(t, auth.Subject{Name: "root", Role: auth.RoleAdmin})).CreateToken(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	c := newCaller(t, w.base, "", &http.Transport{})
	for what, header := range map[string]string{
		"show an API token": "", "want navvy-api.SECRET": "Bearer navvy-api.short", "has expired": "Bearer " + short, "for workers to join": "Bearer " + join,
		"unknown here": "Bearer " + auth.NewAPIToken().String(), "show an API token, as": "Basic " + text,
	} {
		r := c.do(http.MethodGet, "/v1/whoami", "", "Authorization: "+header)
		if says := r.fails(http.StatusUnauthorized, "unauthenticated"); !strings.Contains(says, what) || r.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %s", header, says)
		}
	}
	if log := w.log.String(); strings.Contains(log, text) || strings.Contains(log, short) || strings.Contains(log, join) || !strings.Contains(log, "call refused") {
		t.Errorf("the log has a secret, or nothing:\n%s", log)
	}
	testToken(t, newCaller(t, w.base, text, &http.Transport{}), info)
}

// testToken sees that a good token is ann's.
func testToken(t *testing.T, c *caller, info client.Token) {
	t.Helper()
	if me := c.do(http.MethodGet, "/v1/whoami", "").want(http.StatusOK); me["name"] != "ann" || me["role"] != "user" || me["token"] != info.ID || me["local"] != false {
		t.Errorf("the token is %v", me)
	}
	days := info.Expires.Sub(info.Created).Hours() / 24
	if days < 29 || days > 31 {
		t.Errorf("it is good for %v days", days)
	}
}

// A token that is revoked, or whose certificate is, is refused at once, also where it waits.
func TestRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	root := w.as(t, "root", auth.RoleAdmin)
	for name, revoke := range map[string]func(c *caller, token string){
		"by itself":      func(c *caller, token string) { c.do(http.MethodDelete, "/v1/tokens/"+token, "").want(http.StatusOK) },
		"by an admin":    func(_ *caller, token string) { root.do(http.MethodDelete, "/v1/tokens/"+token, "").want(http.StatusOK) },
		"by certificate": func(*caller, string) {},
	} {
		cert := w.cert(t, auth.Subject{Name: "ann", Role: auth.RoleUser})
		text, info, err := w.grpc(t, cert).CreateAPIToken(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		ann := newCaller(t, w.base, text, &http.Transport{})
		id := ann.submit([]string{"sleep", "1000"}, "0")
		waits := ann.open(http.MethodGet, "/v1/jobs/"+id+"/watch?progress", nil)
		if _, err := io.ReadAtLeast(waits, make([]byte, 1), 1); err != nil {
			t.Fatal(err)
		}
		if revoke(ann, info.ID); name == "by certificate" {
			serial := auth.Serial(cert.Leaf.SerialNumber)
			root.do(http.MethodPost, "/v1/certificates/revoke", fmt.Sprintf(`{"serial":%q}`, serial)).want(http.StatusOK)
		}
		ann.do(http.MethodGet, "/v1/whoami", "").fails(http.StatusUnauthorized, "unauthenticated")
		if rest, err := io.ReadAll(waits); err == nil || !strings.Contains(string(rest), `"code":"denied"`) || !strings.Contains(string(rest), "was revoked") {
			t.Errorf("%s: the stream ends with %s, %v", name, rest, err)
		}
		root.do(http.MethodDelete, "/v1/jobs/"+id+"?force", "").want(http.StatusOK)
	}
}

// A user sees and revokes its own tokens, an admin all.
func TestOwnTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann, bob, root := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser), w.as(t, "root", auth.RoleAdmin)
	ids := func(c *caller) (list []string) {
		for _, v := range c.do(http.MethodGet, "/v1/tokens", "").want(http.StatusOK)["tokens"].([]any) {
			list = append(list, v.(map[string]any)["id"].(string))
		}
		return list
	}
	mine := ids(ann)
	if len(mine) != 1 || len(ids(root)) != 3 {
		t.Fatalf("ann sees %v, root %v", mine, ids(root))
	}
	bob.do(http.MethodDelete, "/v1/tokens/"+mine[0], "").fails(http.StatusNotFound, "not_found")
	ann.do(http.MethodGet, "/v1/whoami", "").want(http.StatusOK)
}

// Others' jobs do not exist, and a viewer changes nothing.
func TestOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann, bob, eve := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser), w.as(t, "eve", auth.RoleViewer)
	job := "/v1/jobs/" + ann.submit([]string{"echo"}, "a")
	ann.do(http.MethodGet, job+"/watch", "").lines()
	for _, path := range []string{"", "/watch", "/results", "/results?follow", "/tasks/0", "/tasks/0/output"} {
		bob.do(http.MethodGet, job+path, "").fails(http.StatusNotFound, "not_found")
		eve.do(http.MethodGet, job+path, "").want(http.StatusOK)
	}
	for _, verb := range []string{"hold", "resume", "stop", "retry"} {
		bob.do(http.MethodPost, job+"/"+verb, "{}").fails(http.StatusNotFound, "not_found")
		eve.do(http.MethodPost, job+"/"+verb, "{}").fails(http.StatusForbidden, "denied")
	}
	bob.do(http.MethodDelete, job, "").fails(http.StatusNotFound, "not_found")
	eve.do(http.MethodPost, "/v1/jobs", `{"spec":{"noop":{}},"inputs":["a"]}`).fails(http.StatusForbidden, "denied")
	bob.do(http.MethodPost, "/v1/jobs", `{"owner":"ann","spec":{"noop":{}},"inputs":["a"]}`).fails(http.StatusBadRequest, "invalid")
}

// Pages of others have no access, whatever token they have got hold of.
func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	for _, header := range []string{"Host: evil.example", "Origin: http://evil.example", "Sec-Fetch-Site: cross-site"} {
		ann.do(http.MethodPost, "/v1/jobs", `{"spec":{"noop":{}},"inputs":["a"]}`, header).fails(http.StatusForbidden, "denied")
	}
	ann.do(http.MethodGet, "/v1/whoami", "", "Host: localhost:1", "Origin: http://localhost:1").want(http.StatusOK)
}

// Over HTTPS the certificate says who calls, and no token is needed.
func TestCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	with := func(cert *auth.Subject) *caller {
		config := auth.ClientTLS(auth.Fixed(w.cert(t, *cert)), w.ca.Pool())
		config.NextProtos = []string{"http/1.1"}
		return newCaller(t, w.base, "", &http.Transport{TLSClientConfig: config})
	}
	ann := with(&auth.Subject{Name: "ann", Role: auth.RoleUser})
	me := ann.do(http.MethodGet, "/v1/whoami", "").want(http.StatusOK)
	if me["name"] != "ann" || me["role"] != "user" || me["expires"] == nil || me["token"] != "" {
		t.Errorf("the certificate is %v", me)
	}
	ann.do(http.MethodPost, "/v1/jobs", `{"spec":{"noop":{}},"inputs":["a"]}`, "Sec-Fetch-Site: cross-site").fails(http.StatusForbidden, "denied")
	with(&auth.Subject{Name: "w", Role: auth.RoleWorker}).do(http.MethodGet, "/v1/jobs", "").fails(http.StatusForbidden, "denied")
	nobody := &http.Client{Transport: &http.Transport{TLSClientConfig: auth.JoinTLS(w.ca.Fingerprint())}, Timeout: patience}
	if resp, err := nobody.Get(w.base + "/v1/whoami"); err == nil {
		_ = resp.Body.Close()
		t.Error("a client without a certificate is served")
	}
	nobody.CloseIdleConnections()
	root := with(&auth.Subject{Name: "root", Role: auth.RoleAdmin})
	root.do(http.MethodPost, "/v1/certificates/revoke", fmt.Sprintf(`{"serial":%q}`, me["serial"])).want(http.StatusOK)
	ann.do(http.MethodGet, "/v1/whoami", "").fails(http.StatusUnauthorized, "unauthenticated")
}

// On the socket beside the data it is the account that holds them.
func TestSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	me := w.socket(t).do(http.MethodGet, "/v1/whoami", "").want(http.StatusOK)
	if me["name"] != "tester" || me["role"] != "admin" || me["local"] != true {
		t.Errorf("it is %v", me)
	}
}
