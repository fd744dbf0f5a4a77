package kubernetes

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/work"
)

// removeQueue removes a queue of the server's. If the server is there and cannot be asked, the
// record of the queue stays: until the server's data go, if they do, for the queue goes with them;
// otherwise that is an error, and who applies again finds the record.
func (d *Driver) removeQueue(ctx context.Context, cluster string, u *unstructured.Unstructured, name string) (there bool, err error) {
	away := d.changeServer(ctx, u.GetNamespace(), cluster, func(ctx context.Context, c *client.Client) error { return work.RemoveQueue(ctx, c, name) })
	if !errors.Is(away, navvy.ErrUnavailable) {
		return false, away
	}
	_, err = d.client.Resource(resources["PersistentVolumeClaim"]).Namespace(u.GetNamespace()).Get(ctx, claimName(cluster), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	} else if err != nil {
		return true, d.explain(err)
	}
	goes, err := d.serverGoes(ctx, cluster, u.GetNamespace())
	if err != nil || goes {
		return true, err
	}
	return true, fmt.Errorf("the queue is still there; apply again when the server answers: %w", away)
}

// serverGoes tells whether whoever has the lock removes the cluster's server: all of the cluster, or
// as the file that is applied has other queues.
func (d *Driver) serverGoes(ctx context.Context, cluster, namespace string) (bool, error) {
	lease, err := d.client.Resource(leases).Namespace(namespace).Get(ctx, leaseName(cluster), metav1.GetOptions{})
	if err == nil && holderOf(lease).What == whatDestroy {
		return true, nil
	} else if err != nil {
		return false, d.explain(err)
	}
	mark, err := d.client.Resource(configMaps).Namespace(namespace).Get(ctx, markName(cluster), metav1.GetOptions{})
	if err != nil {
		return false, d.explain(err)
	}
	file, _, _ := unstructured.NestedString(mark.Object, "data", keyConfig)
	c, err := config.Parse("the file that is applied", []byte(file))
	return err == nil && !c.Queue.Kind.Server(), nil
}
