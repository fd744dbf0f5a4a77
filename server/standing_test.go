package server

import (
	"context"
	"errors"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// Neither somebody who has gone nor a registry that cannot be read makes those whose
// certificates were revoked good again.
func TestStandingHalfRead(t *testing.T) {
	t.Parallel()
	r := newRecords(t)
	put(r, engine.KindCertificate, "aa", &issued{Version: recordVersion, Name: "ann", Role: "user"})
	put(r, engine.KindRevocation, "aa", &revoked{Version: recordVersion})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for who, ctx := range map[string]context.Context{"somebody": t.Context(), "somebody who has gone": gone} {
		r.standing.changed()
		for range 2 {
			if _, err := r.inStanding(ctx, "ann"); !errors.Is(err, navvy.ErrDenied) {
				t.Errorf("%s asks: %v, want ErrDenied", who, err)
			}
		}
	}
	if err := r.eng.Registry().Set(t.Context(), engine.KindRevocation, "a0", []byte("damaged"), nil); err != nil {
		t.Fatal(err)
	}
	r.standing.changed()
	for range 2 {
		if _, err := r.inStanding(t.Context(), "ann"); err == nil {
			t.Error("ann is good, by a registry that cannot be read")
		}
	}
}
