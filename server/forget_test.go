package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/server/auth"
)

const day = 24 * time.Hour

// records is a server of which only the registry matters.
type records struct {
	*testing.T
	*Server
	log strings.Builder
}

func newRecords(t *testing.T) *records {
	t.Helper()
	eng, err := engine.Open(t.Context(), memory.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &records{T: t}
	r.Server = New(manager.New(eng, nil), eng, &Options{Logger: slog.New(slog.NewTextHandler(&r.log, nil))})
	return r
}

// put registers something.
func put[R record](t *records, kind engine.Kind, name string, r *R) {
	t.Helper()
	value, err := encodeRecord(r)
	if err == nil {
		err = t.eng.Registry().Set(t.Context(), kind, name, value, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// has are the names that are registered.
func (r *records) has(kind engine.Kind) (names []string) {
	r.Helper()
	list, _, err := r.eng.Registry().List(r.Context(), kind, "", "", 10_000)
	if err != nil {
		r.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name)
	}
	return names
}

func (r *records) want(kind engine.Kind, names ...string) {
	r.Helper()
	if diff := cmp.Diff(names, r.has(kind)); diff != "" {
		r.Errorf("%s %s after the start; want -, got +:\n%s", kind, time.Now().Format(time.DateTime), diff)
	}
}

// forgets lets the server forget, with a clock that can be turned, until the test ends.
func (r *records) forgets() {
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Forget(ctx)
	}()
	r.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
}

// What is over is forgotten at the start and day by day, and nothing else.
func TestForget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecords(t)
		now := time.Now()
		for name, left := range map[string]time.Duration{"long-gone": -40 * day, "gone": -2 * day, "good": 5 * day} {
			put(r, engine.KindCertificate, name, &issued{Version: recordVersion, Name: "ann", Role: "user", Expires: now.Add(left)})
		}
		put(r, engine.KindRevocation, "long-gone", &revoked{Version: recordVersion, Expires: now.Add(-40 * day)})
		put(r, engine.KindRevocation, "good", &revoked{Version: recordVersion, Expires: now.Add(5 * day)})
		put(r, engine.KindRevocation, "whose", &revoked{Version: recordVersion})
		put(r, engine.KindToken, "old", &token{Version: recordVersion, Uses: 1, Expires: now.Add(-time.Minute)})
		put(r, engine.KindToken, "used", &token{Version: recordVersion, Expires: now.Add(5 * day)})
		put(r, engine.KindToken, "young", &token{Version: recordVersion, Uses: 1, Expires: now.Add(30 * time.Hour)})
		put(r, engine.KindAPIToken, "old", &apiToken{Version: recordVersion, Expires: now.Add(-time.Minute)})
		put(r, engine.KindAPIToken, "young", &apiToken{Version: recordVersion, Expires: now.Add(30 * time.Hour)})

		r.forgets()
		r.want(engine.KindAPIToken, "young")
		r.want(engine.KindCertificate, "gone", "good")
		r.want(engine.KindRevocation, "good", "whose")
		r.want(engine.KindToken, "young")

		<-time.After(day + time.Hour)
		r.want(engine.KindToken, "young")
		<-time.After(day)
		r.want(engine.KindToken)
		<-time.After(4 * day) // the revoked one has expired, and shows what it was
		r.want(engine.KindCertificate, "gone", "good")
		r.want(engine.KindRevocation, "good", "whose")
		<-time.After(24 * day)
		r.want(engine.KindCertificate, "good")
		<-time.After(6 * day)
		r.want(engine.KindCertificate)
		r.want(engine.KindRevocation, "whose")
	})
}

// What cannot be read stays and is told of; the rest goes, however much it is.
func TestForgetAmongDamaged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecords(t)
		for i := range 2*forgetAtOnce + 1 {
			put(r, engine.KindToken, "t"+string(navvy.NewJobID())+string(rune('a'+i%26)), &token{Version: recordVersion, Uses: 1, Expires: time.Now().Add(-time.Hour)})
		}
		if err := r.eng.Registry().Set(t.Context(), engine.KindToken, "odd", []byte("{"), nil); err != nil {
			t.Fatal(err)
		}
		put(r, engine.KindCertificate, "old", &issued{Version: recordVersion, Expires: time.Now().Add(-40 * day)})
		r.forgets()
		r.want(engine.KindToken, "odd")
		r.want(engine.KindCertificate)
		if !strings.Contains(r.log.String(), `token \"odd\"`) {
			t.Errorf("the log does not name it:\n%s", r.log.String())
		}
	})
}

// What a worker could come back with is revoked at once and alone.
func TestRevokeWorker(t *testing.T) {
	t.Parallel()
	r := newRecords(t)
	a, b, person, other := strings.Repeat("a", 32), strings.Repeat("b", 32), strings.Repeat("c", 32), strings.Repeat("d", 32)
	for serial, who := range map[string]issued{
		a: {Name: "w1", Role: "worker"}, b: {Name: "w1", Role: "worker", Renews: a},
		person: {Name: "w1", Role: "user"}, other: {Name: "w2", Role: "worker"},
	} {
		who.Version = recordVersion
		put(r, engine.KindCertificate, serial, &who)
	}
	s := &identity{Server: r.Server}
	for range 2 { // again, after a crash in between
		if err := s.revokeWorker(t.Context(), "w1"); err != nil {
			t.Fatal(err)
		}
	}
	r.want(engine.KindRevocation, a, b)
	entries, _, err := r.eng.Registry().List(t.Context(), engine.KindRevocation, "", "", 10)
	if err != nil || !entries[0].Changed.Equal(entries[1].Changed) {
		t.Errorf("they were written at %v and %v, want one batch; %v", entries[0].Changed, entries[1].Changed, err)
	}
	if err := s.revokeWorker(t.Context(), "w3"); err != nil {
		t.Errorf("one of whom there is no certificate on record: %v", err)
	}
}

// A certificate that was forgotten is revoked with what renews it.
func TestRevokeForgotten(t *testing.T) {
	t.Parallel()
	r := newRecords(t)
	old, young := strings.Repeat("a", 32), strings.Repeat("b", 32)
	put(r, engine.KindCertificate, young, &issued{Version: recordVersion, Name: "ann", Role: "user", Renews: old, Expires: time.Now().Add(day)})
	s := &identity{Server: r.Server}
	resp, err := s.revoke(t.Context(), &navvyv1.RevokeRequest{Serial: old})
	if err != nil || len(resp.GetCertificates()) != 1 || !r.opts.Gate.Revoked(young) {
		t.Errorf("revoked are %v, %v", resp.GetCertificates(), err)
	}
	r.opts.Authority = &auth.Authority{}
	if _, err := s.revoke(t.Context(), &navvyv1.RevokeRequest{Serial: strings.Repeat("c", 32)}); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("one that nobody knows: %v", err)
	}
	if !slices.Contains(r.has(engine.KindRevocation), young) {
		t.Error("the revocation is not registered")
	}
}
