package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// within fails the test if fn takes longer than a second.
func within(t *testing.T, what string, fn func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Second):
		t.Fatalf("%s goes on after a second", what)
		return nil
	}
}

// untilEnd receives until there is an error, and gives it; it fails the test if
// that takes longer than a second.
func untilEnd(t *testing.T, what string, recv func() error) error {
	t.Helper()
	return within(t, what, func() error {
		for {
			if err := recv(); err != nil {
				return err
			}
		}
	})
}

// A revoked certificate opens no connection, makes no call on one that is open,
// and its open streams end within a second, also those that wait for the client.
func TestRevokedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	admin := w.as(t, "root", auth.RoleAdmin)
	key, issued := issue(t, admin, "ann", auth.RoleUser)
	ann := pair(t, key, issued)
	conn, err := w.dial(t, ann)
	if err != nil {
		t.Fatal(err)
	}
	open := client.New(conn)
	id := submit(t, open, navvy.Job{})
	watch, err := navvyv1.NewJobsClient(conn).Watch(t.Context(), &navvyv1.WatchRequest{Id: string(id), Progress: true})
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	// This one waits in the server for what the client sends.
	submitting, err := navvyv1.NewJobsClient(conn).Submit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	revokeAnn(t, admin, serial(ann))
	err = untilEnd(t, "watch", func() error { _, err := watch.Recv(); return err })
	if s := status.Convert(err); s.Code() != codes.PermissionDenied || !strings.Contains(s.Message(), "was revoked") {
		t.Errorf("the open stream ends with %v", err)
	}
	_ = untilEnd(t, "submit", func() error { _, err := submitting.Recv(); return err })
	if _, err := open.Get(t.Context(), id); err == nil {
		t.Error("a call on an open connection works")
	}
	if _, err := w.dial(t, ann); !errors.Is(err, navvy.ErrDenied) || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("a new connection: %v", err)
	}
	if len(w.audit.find(t, "call refused")) == 0 {
		t.Error("nothing of it is in the audit log")
	}
}

// revokeAnn revokes ann's one certificate, and sees what the admin is told.
func revokeAnn(t *testing.T, admin *client.Client, serial string) {
	t.Helper()
	list, err := admin.Revoke(t.Context(), client.RevokeOptions{Serial: strings.ToUpper(serial), Why: "lost"})
	if err != nil || len(list) != 1 {
		t.Fatalf("revoked: %+v, %v", list, err)
	}
	if c := list[0]; c.Name != "ann" || c.Revoked.IsZero() || c.RevokedBy != "root" || c.Why != "lost" {
		t.Errorf("revoked: %+v", c)
	}
}

// A worker's session, in which the server waits, ends as well.
func TestRevokedWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	admin := w.as(t, "root", auth.RoleAdmin)
	key, issued := issue(t, admin, "w", auth.RoleWorker)
	conn, err := w.dial(t, pair(t, key, issued))
	if err != nil {
		t.Fatal(err)
	}
	session, err := client.NewWorkers(conn).Work(t.Context(), client.WorkerInfo{Name: "w", Kinds: []string{"noop"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Revoke(t.Context(), client.RevokeOptions{Name: "w"}); err != nil {
		t.Fatal(err)
	}
	_ = untilEnd(t, "work", func() error { _, err := session.Next(); return err })
}

// issue makes a key and asks for a certificate.
func issue(t *testing.T, c *client.Client, name string, role auth.Role) (key any, issued client.Issued) {
	t.Helper()
	k, err := auth.NewKey(auth.P256)
	if err != nil {
		t.Fatal(err)
	}
	if issued, err = c.Issue(t.Context(), k, name, role, 0); err != nil {
		t.Fatal(err)
	}
	return k, issued
}

func pair(t *testing.T, key any, issued client.Issued) *tls.Certificate {
	t.Helper()
	cert, err := issued.Parsed()
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// What was revoked and issued is known after a restart.
func TestRevokedForEver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	admin := w.as(t, "root", auth.RoleAdmin)
	key, issued := issue(t, admin, "ann", auth.RoleUser)
	ann := pair(t, key, issued)
	if _, err := admin.Revoke(t.Context(), client.RevokeOptions{Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	w.grpc.Stop()
	w.serve(t, auth.Ed25519, false)
	if _, err := w.dial(t, ann); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("after a restart: %v", err)
	}
	admin = w.as(t, "root", auth.RoleAdmin)
	certs := certificates(t, admin, "ann")
	if len(certs) != 1 || certs[0].Serial != serial(ann) || certs[0].Revoked.IsZero() || certs[0].By != "root" || certs[0].Via != "issue" || certs[0].Role != "user" {
		t.Errorf("of ann there is %+v", certs)
	}
	for what, o := range map[string]struct {
		client.RevokeOptions
		want error
	}{
		"again":              {client.RevokeOptions{Name: "ann"}, nil},
		"an unknown name":    {client.RevokeOptions{Name: "bob"}, navvy.ErrNotFound},
		"an unknown serial":  {client.RevokeOptions{Serial: "abc"}, navvy.ErrNotFound},
		"no serial at all":   {client.RevokeOptions{Serial: "xyz"}, navvy.ErrInvalid},
		"nothing":            {client.RevokeOptions{}, navvy.ErrInvalid},
		"both":               {client.RevokeOptions{Serial: "abc", Name: "ann"}, navvy.ErrInvalid},
		"the server's":       {client.RevokeOptions{Serial: certificates(t, admin, "server")[0].Serial}, navvy.ErrInvalid},
		"the server by name": {client.RevokeOptions{Name: "server"}, navvy.ErrNotFound},
	} {
		if _, err := admin.Revoke(t.Context(), o.RevokeOptions); !errors.Is(err, o.want) {
			t.Errorf("revoke %s: %v", what, err)
		}
	}
}

func certificates(t *testing.T, c *client.Client, name string) (list []client.Certificate) {
	t.Helper()
	for cert, err := range c.Certificates(t.Context(), name) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, cert)
	}
	return list
}

func TestCertificatesComeInPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	conn := w.conn(t, "root", auth.RoleAdmin)
	admin := client.New(conn)
	want := map[string]bool{certificates(t, admin, "server")[0].Serial: true}
	for i := range 7 {
		key, issued := issue(t, admin, fmt.Sprint("user", i%2), auth.RoleUser)
		want[serial(pair(t, key, issued))] = true
	}
	for limit := int32(1); limit < 10; limit++ {
		got := map[string]bool{}
		for page, pages := "", 0; page != "" || pages == 0; pages++ {
			resp, err := navvyv1.NewIdentityClient(conn).Certificates(t.Context(), &navvyv1.CertificatesRequest{Limit: limit, Page: page})
			if err != nil || len(resp.GetCertificates()) > int(limit) || pages > 10 {
				t.Fatalf("page %d: %v", pages, err)
			}
			for _, c := range resp.GetCertificates() {
				if got[c.GetSerial()] {
					t.Errorf("%s comes twice", c.GetSerial())
				}
				got[c.GetSerial()] = true
			}
			page = resp.GetNextPage()
		}
		if len(got) != len(want) {
			t.Errorf("pages of %d: %d certificates, want %d", limit, len(got), len(want))
		}
	}
	if n := len(certificates(t, admin, "user1")); n != 3 {
		t.Errorf("user1 has %d certificates", n)
	}
}

// A certificate renews itself, and nothing else: same name, same role, as long as
// it was good. What renews a revoked one goes with it.
func TestRenew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	admin := w.as(t, "root", auth.RoleAdmin)
	key, err := auth.NewKey("")
	if err != nil {
		t.Fatal(err)
	}
	issued, err := admin.Issue(t.Context(), key, "w", auth.RoleWorker, 40*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	chain := []*tls.Certificate{pair(t, key, issued)}
	for range 2 {
		chain = append(chain, renew(t, w, chain[len(chain)-1]))
	}
	list, err := admin.Revoke(t.Context(), client.RevokeOptions{Serial: serial(chain[1])})
	if err != nil || len(list) != 2 {
		t.Fatalf("revoked: %v, %v", list, err)
	}
	for i, want := range []bool{true, false, false} {
		if _, err := w.dial(t, chain[i]); (err == nil) != want {
			t.Errorf("certificate %d after the second was revoked: %v", i, err)
		}
	}
}

// renew lets a worker's certificate renew itself, with another key.
func renew(t *testing.T, w *world, old *tls.Certificate) *tls.Certificate {
	t.Helper()
	conn, err := w.dial(t, old)
	if err != nil {
		t.Fatal(err)
	}
	key, err := auth.NewKey(auth.P256)
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := client.New(conn).Renew(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	fresh := pair(t, key, renewed)
	if id, err := auth.Of(fresh.Leaf); err != nil || id.Name != "w" || id.Role != auth.RoleWorker {
		t.Errorf("renewed it is %+v, %v", id, err)
	}
	if left := time.Until(fresh.Leaf.NotAfter); left < 39*time.Hour || left > 40*time.Hour {
		t.Errorf("renewed it is good for %v", left)
	}
	return fresh
}

// Bad requests are refused with an error that says what is wrong.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	conn := w.conn(t, "root", auth.RoleAdmin)
	rpc := navvyv1.NewIdentityClient(conn)
	key, err := auth.NewKey("")
	if err != nil {
		t.Fatal(err)
	}
	good, err := auth.NewRequest(key, "")
	if err != nil {
		t.Fatal(err)
	}
	forged := slices.Clone(good)
	forged[len(forged)-1] ^= 1
	for what, req := range map[string]*navvyv1.IssueRequest{
		"no request":         {Name: "ann", Role: "user"},
		"garbage":            {Name: "ann", Role: "user", Request: []byte("garbage")},
		"a forged signature": {Name: "ann", Role: "user", Request: forged},
		"much too long":      {Name: "ann", Role: "user", Request: make([]byte, 1<<20)},
		"no name":            {Role: "user", Request: good},
		"an odd name":        {Name: "ann bob", Role: "user", Request: good},
		"no role":            {Name: "ann", Request: good},
		"a server":           {Name: "ann", Role: "server", Request: good},
	} {
		if _, err := rpc.Issue(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := client.New(conn).Issue(t.Context(), key, "ann", auth.RoleUser, -time.Hour); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("a lifetime below zero: %v", err)
	}
	if certs := certificates(t, client.New(conn), "ann"); len(certs) > 0 {
		t.Errorf("there is %v", certs)
	}
	if _, err := rpc.Issue(t.Context(), &navvyv1.IssueRequest{Name: "ann", Role: "user", Request: good}); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

// A connection ends when its certificate does.
func TestExpiryEndsStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	conn, err := w.dial(t, w.cert(t, w.ca, auth.Subject{Name: "w", Role: auth.RoleWorker}, 2*time.Second)) // certificates have whole seconds
	if err != nil {
		t.Fatal(err)
	}
	session, err := client.NewWorkers(conn).Work(t.Context(), client.WorkerInfo{Name: "w", Kinds: []string{"noop"}})
	for err == nil {
		_, err = session.Next()
	}
	if t.Context().Err() != nil {
		t.Fatal(err)
	}
	if _, err := client.New(conn).Whoami(t.Context()); err == nil {
		t.Error("a call with an expired certificate works")
	}
}

// With an outside authority nothing is issued, and any certificate can be revoked.
func TestOutsideAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, true)
	admin := w.as(t, "root", auth.RoleAdmin)
	key, err := auth.NewKey("")
	if err != nil {
		t.Fatal(err)
	}
	_, issueErr := admin.Issue(t.Context(), key, "ann", auth.RoleUser, 0)
	_, renewErr := admin.Renew(t.Context(), key)
	_, _, tokenErr := admin.CreateToken(t.Context(), 0, 0)
	_, joinErr := client.Join(t.Context(), w.addr, auth.NewToken(w.ca.Fingerprint()).String(), "w", "")
	for what, err := range map[string]error{"issue": issueErr, "renew": renewErr, "token": tokenErr, "join": joinErr} {
		if !errors.Is(err, navvy.ErrUnsupported) || !strings.Contains(err.Error(), "outside authority") {
			t.Errorf("%s: %v", what, err)
		}
	}
	ann := w.cert(t, w.ca, auth.Subject{Name: "ann", Role: auth.RoleUser}, 0)
	if _, err := admin.Revoke(t.Context(), client.RevokeOptions{Serial: serial(ann), Why: "left"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.dial(t, ann); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("revoked: %v", err)
	}
	var shown []string
	for _, c := range certificates(t, admin, "") {
		if !c.Revoked.IsZero() {
			shown = append(shown, c.Serial+" "+c.Why)
		}
	}
	if !slices.Equal(shown, []string{serial(ann) + " left"}) {
		t.Errorf("revoked are %v", shown)
	}
}

// Of many renewals beside a revocation, none outlives it.
func TestRenewBesideRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	admin := w.as(t, "root", auth.RoleAdmin)
	key, issued := issue(t, admin, "ann", auth.RoleUser)
	conn, err := w.dial(t, pair(t, key, issued))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	fresh, err := auth.NewKey("")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	began := make(chan struct{}, 100)
	for range 4 {
		all.Go(func() {
			for {
				if _, err := client.New(conn).Renew(ctx, fresh); err != nil {
					return
				}
				began <- struct{}{}
			}
		})
	}
	<-began
	if _, err := admin.Revoke(t.Context(), client.RevokeOptions{Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	for _, c := range certificates(t, admin, "ann") {
		if c.Revoked.IsZero() {
			t.Errorf("%s, which renews %s, was not revoked", c.Serial, c.Renews)
		}
	}
}
