package server_test

import (
	"context"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// A job whose inputs still come, and for which nobody waits, ends when it is stopped,
// although its client sends nothing.
func TestStopWhileInputsCome(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	c := w.as(t, "ann", auth.RoleUser)
	ctx := t.Context()
	sub, err := c.Submit(ctx, navvy.Job{Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, client.SubmitOptions{Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if err := sub.Send([][]byte{[]byte("a")}); err != nil {
		t.Fatal(err)
	}
	id, _, err := sub.Accepted(ctx)
	if err == nil {
		_, err = c.Stop(ctx, id, "enough")
	}
	if err != nil {
		t.Fatal(err)
	}
	waiting, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	st, err := c.Wait(waiting, id)
	if err != nil || st.Open || !st.State().Final() {
		t.Errorf("%+v, %v", st, err)
	}
}
