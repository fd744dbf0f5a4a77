package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/kubernetes"
)

// guestPlace is where the workers are on an AKS cluster.
type guestPlace struct{ group, aks, namespace string }

// guestSpec is what is needed to make something on an AKS cluster.
type guestSpec struct {
	place    guestPlace
	resource driver.Resource // as package kubernetes has it
	late     lateOf
}

// guestHandle is what Remove wants to know of it.
type guestHandle struct {
	place    guestPlace
	observed *driver.Observed // nil if nobody could look
	of       string           // what the keys in it are of
}

// guest opens an AKS cluster with the credentials of its administrator, which are kept nowhere.
func (d *Driver) guest(ctx context.Context, what string, p guestPlace) (*kubernetes.Guest, error) {
	var answer struct {
		Kubeconfigs []struct {
			Value []byte `json:"value"`
		} `json:"kubeconfigs"`
	}
	id := d.id(p.group, "providers/"+typeAKS+"/"+p.aks)
	if err := d.call(ctx, http.MethodPost, id+"/listClusterAdminCredential", versions[typeAKS], nil, &answer); err != nil {
		return nil, d.failed(what, "ask for the credentials of the AKS cluster "+p.aks, err)
	}
	if len(answer.Kubeconfigs) == 0 {
		return nil, unsupported("the AKS cluster %s has no credentials of an administrator: allow its local accounts", p.aks)
	}
	g, err := kubernetes.OpenGuest(answer.Kubeconfigs[0].Value, &kubernetes.Options{Namespace: p.namespace, Getenv: d.o.Getenv, Logger: d.o.Logger, Wrap: d.wrap})
	if err != nil {
		return nil, fmt.Errorf("azure: %s: the credentials of the AKS cluster %s: %w", what, p.aks, err)
	}
	return g, nil
}

// on does something on an AKS cluster.
func (d *Driver) on(ctx context.Context, what string, p guestPlace, do func(*kubernetes.Guest) error) error {
	g, err := d.guest(ctx, what, p)
	if err != nil {
		return err
	}
	return errors.Join(do(g), g.Close())
}

func (d *Driver) putGuest(ctx context.Context, cluster string, r *driver.Resource, s *guestSpec) error {
	var late kubernetes.Late
	if s.late != nil {
		var err error
		if late, err = s.late(ctx); err != nil {
			return d.failed(r.String(), "read the keys that it is to have", err)
		}
	}
	return d.on(ctx, r.String(), s.place, func(g *kubernetes.Guest) error { return onCluster(g.Put(ctx, cluster, &s.resource, late)) })
}

func onCluster(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("azure: on the AKS cluster: %w", err)
}

// answerTime is how long the API server of a new AKS cluster may take to be found.
const answerTime = 5 * time.Minute

// awaitAKS waits until the API server of an AKS cluster answers.
func (d *Driver) awaitAKS(ctx context.Context, what string, p guestPlace) error {
	return d.on(ctx, what, p, func(g *kubernetes.Guest) error {
		bounded, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		return onCluster(g.Await(bounded))
	})
}

// workerKeys are the keys of a namespace or account, and of insights, as workers have them in
// their environment.
func (d *Driver) workerKeys(ctx context.Context, group, kind, name, insights string) (kubernetes.Late, error) {
	late := kubernetes.Late{Values: map[string]string{}}
	if kind != "" {
		id := d.id(group, "providers/"+kind+"/"+name)
		now, err := d.resources.GetByID(ctx, id, versions[kind], nil)
		if err != nil {
			return late, err
		}
		late.Of = born(&now.GenericResource)
		if err := d.brokerKey(ctx, group, kind, name, late.Values); err != nil {
			return late, err
		}
	}
	if insights != "" {
		now, err := d.resources.GetByID(ctx, d.id(group, "providers/"+typeInsights+"/"+insights), versions[typeInsights], nil)
		if err != nil {
			return late, err
		}
		late.Values[varInsights] = text(field(&now.GenericResource, "ConnectionString"))
	}
	return late, nil
}

func (d *Driver) brokerKey(ctx context.Context, group, kind, name string, values map[string]string) error {
	if kind == typeAccount {
		key, err := d.accountKey(ctx, group, name)
		values[varStorage] = fmt.Sprintf("DefaultEndpointsProtocol=https;AccountName=%s;AccountKey=%s;EndpointSuffix=core.windows.net", name, key)
		return err
	}
	var answer struct {
		Connection string `json:"primaryConnectionString"`
	}
	err := d.call(ctx, http.MethodPost, d.id(group, "providers/"+kind+"/"+name)+"/AuthorizationRules/"+workerRule+"/listKeys", versions[kind], nil, &answer)
	values[varBus] = answer.Connection
	return err
}

// guests finds what there is on the AKS cluster. If it does not answer nobody knows.
func (o *observation) guests(ctx context.Context, salt []byte) error {
	for i := range o.found {
		aks := &o.found[i]
		if aks.Kind != kindAKS || aks.Health == driver.HealthUnknown {
			continue
		}
		place := guestPlace{o.group, aks.Name, namespaceOf(o.cluster)}
		var there []kubernetes.GuestObserved
		err := o.d.on(ctx, aks.String(), place, func(g *kubernetes.Guest) error {
			var err error
			if there, err = g.Observe(ctx, o.cluster, salt); err != nil {
				return err
			}
			aks.Holds, err = g.Others(ctx, o.cluster)
			return err
		})
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			aks.Holds = "what is on it is not known"
			o.found = append(o.found, driver.Observed{
				ID: driver.ID{Kind: kindDeployment, Name: deploymentName(o.cluster)}, Health: driver.HealthUnknown, Detail: err.Error(),
				Handle: &guestHandle{place: place},
			})
			return nil
		}
		for _, r := range there {
			own := r.Observed
			own.Handle = &guestHandle{place, &r.Observed, r.Of}
			o.found = append(o.found, own)
		}
		return nil
	}
	return nil
}

// deploymentName is that of the workers on an AKS cluster.
func deploymentName(cluster string) string { return cluster + "-worker" }

// removeGuest removes something from an AKS cluster. What nobody could look at goes with that.
func (d *Driver) removeGuest(ctx context.Context, cluster string, r *driver.Observed, h *guestHandle) error {
	if h.observed == nil {
		return nil
	}
	err := d.on(ctx, r.String(), h.place, func(g *kubernetes.Guest) error { return onCluster(g.Remove(ctx, cluster, h.observed)) })
	if errors.Is(err, navvy.ErrNotFound) && isNotFound(err) {
		return nil // with the AKS cluster
	}
	return err
}

// othersOn refuses to remove an AKS cluster that others use. Of one that does not answer nobody
// knows, which whoever destroys it was told.
func (d *Driver) othersOn(ctx context.Context, cluster, what string, p guestPlace) error {
	var others string
	err := d.on(ctx, what, p, func(g *kubernetes.Guest) error {
		var err error
		others, err = g.Others(ctx, cluster)
		return err
	})
	if others != "" {
		return conflict("%s: it has %s on it, which navvy did not make: remove that, or keep it elsewhere, and destroy again", what, others)
	}
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		d.o.Logger.Warn("the AKS cluster is removed though nobody could look what is on it", "resource", what, "error", err)
	}
	return nil
}

// aksHealth is how an AKS cluster is that Azure has made.
func aksHealth(power string) (driver.Health, string) {
	if power == "Stopped" {
		return driver.HealthFailed, "it is stopped: az aks start has it run again"
	}
	return driver.HealthOK, ""
}
