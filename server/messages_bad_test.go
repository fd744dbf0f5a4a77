package server_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// What makes no sense is refused with the reason.
func TestBadMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	w.serviced(t, "q")
	ann := w.as(t, "ann", auth.RoleUser)
	m, ctx := ann.Messages("q"), t.Context()
	receive := func(o client.ReceiveOptions) error { _, err := m.Receive(ctx, o); return err }
	send := func(list ...client.OutMessage) error { _, err := m.Send(ctx, list, client.SendOptions{}); return err }
	_, _, redrive := m.Redrive(ctx, "nothing")
	_, purge := m.Purge(ctx, "")
	_, broker := ann.Messages("amqp://host/q").Receive(ctx, client.ReceiveOptions{})
	for what, c := range map[string]struct{ err, want error }{
		"no message":           {send(), navvy.ErrInvalid},
		"too many":             {send(make([]client.OutMessage, client.MaxSend+1)...), navvy.ErrInvalid},
		"a long correlation":   {send(client.OutMessage{Correlation: strings.Repeat("x", 1025)}), navvy.ErrInvalid},
		"no UTF-8":             {send(client.OutMessage{Correlation: "\xff"}), navvy.ErrInvalid},
		"a short lease":        {receive(client.ReceiveOptions{Lease: time.Millisecond}), navvy.ErrInvalid},
		"a long lease":         {receive(client.ReceiveOptions{Lease: 13 * time.Hour}), navvy.ErrInvalid},
		"a long wait":          {receive(client.ReceiveOptions{Wait: time.Hour}), navvy.ErrInvalid},
		"too many at once":     {receive(client.ReceiveOptions{Max: 1001}), navvy.ErrInvalid},
		"no receipt":           {m.Ack(ctx, "nothing"), navvy.ErrInvalid},
		"half a receipt":       {m.Ack(ctx, "0123456789ab/1.1.1"), navvy.ErrInvalid},
		"a receipt of nothing": {m.Ack(ctx, "0123456789ab/1.0.1.1"), nil},
		"a negative delay":     {m.Release(ctx, -1, "0123456789ab/1.0.1.1"), navvy.ErrInvalid},
		"no dead letter":       {redrive, navvy.ErrInvalid},
		"no side":              {purge, navvy.ErrInvalid},
		"a broker's queue":     {broker, navvy.ErrUnsupported},
	} {
		if c.want == nil && c.err != nil || !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", what, c.err, c.want)
		}
	}
	job := navvy.Job{Queue: "q", Responses: true, Format: navvy.InputMessage}
	id := submit(t, ann, job)
	if got, err := ann.Get(ctx, id); err != nil || got.Responses {
		t.Errorf("a job says itself that its tasks are messages, and is believed: %v", err)
	}
}
