package container_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// A worker that leaves while a log is on its way leaves the attempt to the next one, and the log.
func TestBucketLogLeft(t *testing.T) {
	t.Parallel()
	s := openStorage(t)
	o := s.options
	o.Buckets.Here = "http://127.0.0.1:9"
	n := shell("echo it runs; exit 4")
	n.Container.Buckets = navvy.Buckets{Input: "data"}
	first := newTrial(n).start(t, open(t, s.namespace, o))
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	ended := make(chan error, 1)
	go func() {
		_, err := first.execution.Wait(ctx)
		ended <- err
	}()
	kubetest.Until(t, "its log is tried", func() bool { return strings.Contains(s.said.text(), "it is tried again") })
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	second := first.again().start(t, open(t, s.namespace, s.options))
	end, err := second.end(t)
	if err != nil || end.Exit.Code != 4 || second.name() != first.name() {
		t.Errorf("ended as %+v, %v", end, err)
	}
	if got := s.get(t, "data", second.name()+".log"); got != "it runs\nnavvy: exit code 4\n" {
		t.Errorf("the log in the bucket is %q", got)
	}
}
