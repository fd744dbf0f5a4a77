package container

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// What says nothing about the task is tried again; what does is not.
func TestPassing(t *testing.T) {
	t.Parallel()
	jobs := schema.GroupResource{Group: "batch", Resource: "jobs"}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("connection refused"), true},
		{fmt.Errorf("a call: %w", context.DeadlineExceeded), true},
		{apierrors.NewTooManyRequests("later", 1), true},
		{apierrors.NewServiceUnavailable("starting"), true},
		{apierrors.NewInternalError(errors.New("a webhook does not answer")), true},
		{apierrors.NewServerTimeout(jobs, "create", 1), true},
		{apierrors.NewTimeoutError("etcd", 1), true},
		{apierrors.NewConflict(jobs, "j", errors.New("the quota has changed")), true},
		{apierrors.NewUnauthorized("a token is being renewed"), true},
		{apierrors.NewForbidden(jobs, "j", errors.New("exceeded quota: jobs, used 5, limited to 5")), true},
		{apierrors.NewForbidden(jobs, "j", errors.New("no role")), false},
		{apierrors.NewNotFound(jobs, "j"), false},
		{apierrors.NewBadRequest("no"), false},
		{apierrors.NewInvalid(schema.GroupKind{Kind: "Job"}, "j", nil), false},
		{apierrors.NewRequestEntityTooLargeError("too long"), false},
		{&driver.Refusal{Reason: navvy.ReasonStart}, false},
		{overtaken("j"), false},
	} {
		if got := passing(c.err); got != c.want {
			t.Errorf("%v: passing %t, want %t", c.err, got, c.want)
		}
	}
}

// Rights that are wanting are asked for again for a moment; they may be known by then.
func TestDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		forbidden := apierrors.NewForbidden(schema.GroupResource{}, "j", errors.New("no role"))
		var r tries
		if !r.again(errGoing) || !r.again(forbidden) || r.unsure != 0 {
			t.Error("it gives up at once, or takes what is refused for what may have been done")
		}
		synctest.Wait()
		<-time.After(doubtFor)
		if r.again(forbidden) {
			t.Error("it asks for ever")
		}
		if !r.again(errors.New("broken")) || r.unsure != 1 {
			t.Error("what broke may have been done")
		}
	})
}
