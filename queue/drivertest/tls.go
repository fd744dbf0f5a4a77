package drivertest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
)

// RunTLS tests connections over TLS to a broker that has the certificates of c and wants
// one of its clients; plain is the driver's scheme without TLS. base is the URL of a queue
// of it over TLS, without options.
func RunTLS(t *testing.T, base, plain string, drivers map[string]driver.Driver, c *Certificates) { //nolint:gocyclo // one life, step by step
	t.Helper()
	client := "&cert=" + c.Client + "&key=" + c.ClientKey
	t.Run("Trusted", func(t *testing.T) {
		q, err := queue.Open(t.Context(), base+"?ca="+c.CA+client, drivers, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := q.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		if err := q.Send(t.Context(), queue.Message{Body: []byte("over TLS")}); err != nil {
			t.Fatal(err)
		}
		leases, err := q.Receive(t.Context(), 1)
		if err != nil || string(Body(t, leases[0])) != "over TLS" {
			t.Fatalf("received %v: %v", leases, err)
		}
		if err := leases[0].Ack(t.Context()); err != nil {
			t.Error(err)
		}
	})
	refused := map[string]string{
		"system's authorities": base + "?" + client[1:],
		"another authority":    base + "?ca=" + c.OtherCA + client,
	}
	for name, u := range refused {
		t.Run(name, func(t *testing.T) {
			if q, err := queue.Open(t.Context(), u, drivers, nil); !errors.Is(err, navvy.ErrDenied) {
				t.Errorf("%v, %v", q, err)
			}
		})
	}
	t.Run("no certificate", func(t *testing.T) {
		// In TLS 1.3 the client is refused after it has begun to speak: the broker may hang
		// up before its reason is read.
		if q, err := queue.Open(t.Context(), base+"?ca="+c.CA, drivers, nil); !errors.Is(err, navvy.ErrDenied) && !errors.Is(err, navvy.ErrUnavailable) {
			t.Errorf("%v, %v", q, err)
		}
	})
	t.Run("TLS where the URL has none", func(t *testing.T) {
		_, after, _ := strings.Cut(base, "://")
		q, err := queue.Open(t.Context(), plain+"://"+after, drivers, nil)
		if plain == "nats" && errors.Is(err, navvy.ErrDenied) {
			return // its servers say themselves that they want TLS, and this one wants a certificate, too
		}
		if !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "speaks TLS: write ") {
			t.Errorf("%v, %v", q, err)
		}
	})
	for name, u := range map[string]string{
		"no such file": base + "?ca=/nowhere/ca.crt", "no certificate in it": base + "?ca=" + c.ClientKey,
		"cert alone": base + "?cert=" + c.Client, "key of another": base + "?cert=" + c.Client + "&key=" + c.ServerKey,
		"no TLS": plain + "://127.0.0.1/q?ca=" + c.CA,
	} {
		t.Run(name, func(t *testing.T) {
			if err := queue.Check(u, drivers); !errors.Is(err, navvy.ErrInvalid) {
				t.Errorf("%s: %v", u, err)
			}
		})
	}
}

// RunNoTLS tests a URL over TLS of a broker that has none: the error says what to write.
// base is the URL over TLS of a queue of it.
func RunNoTLS(t *testing.T, base, plain string, drivers map[string]driver.Driver) {
	t.Helper()
	secure, _, _ := strings.Cut(base, "://")
	q, err := queue.Open(t.Context(), base, drivers, nil)
	if !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "write "+plain+":// in place of "+secure+"://") {
		t.Errorf("%v, %v", q, err)
	}
}
