package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/navvy-run/navvy"
)

// errStuck says that something that is being removed is not gone when its time is over.
var errStuck = fmt.Errorf("it is not gone: %w", navvy.ErrUnavailable)

// untilGone bounds a wait for what is being removed.
func (d *Driver) untilGone(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d.gone, errStuck)
}

// stuck says of what it is that an object which is being removed is not gone, and what to do. The
// error is that of the wait.
func (d *Driver) stuck(cluster string, u *unstructured.Unstructured, err error) error {
	what := fmt.Sprintf("%s %s", kindOf(u), u.GetName())
	if !errors.Is(err, errStuck) {
		return fmt.Errorf("%s is being removed: %w", what, err)
	}
	where := ""
	if u.GetNamespace() != "" {
		where = " --namespace " + u.GetNamespace()
	}
	if u.GetKind() == "PersistentVolumeClaim" && u.GetName() == claimName(cluster) {
		return fmt.Errorf("%s is being removed, but the server's pod has it: kubectl%s delete pod %s, then apply again: %w", what, where, podName(cluster), err)
	}
	since := "a while"
	if at := u.GetDeletionTimestamp(); at != nil {
		since = at.UTC().Format(time.RFC3339)
	}
	finalizers := cmp.Or(strings.Join(u.GetFinalizers(), ", "), "none")
	return fmt.Errorf("%s is being removed since %s, and waits for its finalizers (%s): see to whoever they are of (kubectl%s describe %s), then try again: %w", what, since, finalizers, where, what, err)
}
