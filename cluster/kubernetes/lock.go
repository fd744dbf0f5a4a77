package kubernetes

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/internal/pause"
)

// The lock is a Lease in the cluster's namespace. It lasts a minute and is renewed four times
// in it. Clocks differ: one that seems to be over is watched for as long as its holder may trust
// it, and a little longer, before it is taken.
const (
	leaseTime    = time.Minute
	renewals     = 4
	renewAgain   = 2 * time.Second // after it failed
	leaseMargin  = 5 * time.Second // for calls of the holder's that are still on their way
	giveBackTime = 10 * time.Second
	microTime    = "2006-01-02T15:04:05.000000Z07:00"
)

// whatDestroy is what somebody does, as driver.Holder has it, who removes a cluster.
const whatDestroy = "destroy"

// lock is a lease that is renewed.
type lock struct {
	d                  *Driver
	cluster, namespace string
	client             dynamic.ResourceInterface
	id                 string

	end  context.CancelFunc
	over chan struct{} // closed when nobody renews any more
	lost chan struct{}
	once sync.Once
}

// Lock implements driver.Driver. The namespace is made if it is missing, but not to destroy
// what there is not.
func (d *Driver) Lock(ctx context.Context, cluster string, h driver.Holder) (driver.Lock, error) {
	namespace, err := d.place(ctx, cluster)
	if err != nil {
		return nil, err
	}
	if namespace != "" && h.What == whatDestroy {
		if there, err := d.namespaceThere(ctx, namespace); err != nil {
			return nil, err
		} else if !there {
			namespace = ""
		}
	}
	l := &lock{d: d, cluster: cluster, namespace: namespace, end: func() {}, over: make(chan struct{}), lost: make(chan struct{})}
	if namespace == "" { // there is nothing to be locked
		close(l.over)
		return l, nil
	}
	if err := d.makeNamespace(ctx, cluster, namespace); err != nil {
		return nil, fmt.Errorf("namespace %s: %w", namespace, err)
	}
	l.client = d.client.Resource(leases).Namespace(namespace)
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	l.id = h.Who + " " + hex.EncodeToString(id[:])
	began, err := l.take(ctx, h)
	if err != nil {
		return nil, l.notTaken(ctx, err)
	}
	renewing, end := context.WithCancel(context.WithoutCancel(ctx))
	l.end = end
	go l.renew(renewing, began.Add(d.lease))
	return l, nil
}

// notTaken gives back what may have been taken all the same, as an answer may have been lost.
func (l *lock) notTaken(ctx context.Context, err error) error {
	if _, is := errors.AsType[*driver.HeldError](err); is {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackTime)
	defer cancel()
	return errors.Join(err, l.giveBack(ctx))
}

// take makes the lease, or takes that of somebody who is dead. It is the caller's from began on.
func (l *lock) take(ctx context.Context, h driver.Holder) (began time.Time, err error) {
	for {
		began = time.Now()
		mine, err := l.object(h)
		if err != nil {
			return began, err
		}
		_, err = l.client.Create(ctx, mine, metav1.CreateOptions{FieldManager: manager})
		if !apierrors.IsAlreadyExists(err) {
			return began, l.d.explain(err)
		}
		there, err := l.client.Get(ctx, leaseName(l.cluster), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		} else if err != nil {
			return began, l.d.explain(err)
		}
		if there.GetLabels()[labelLock] != l.cluster {
			return began, fmt.Errorf("the lease %s is in the namespace %s, and is not navvy's: %w", leaseName(l.cluster), l.namespace, navvy.ErrExists)
		}
		if l.holder(there) == l.id { // an answer was lost
			return began, nil
		}
		if !expired(there) {
			return began, held(there)
		}
		if err := pause.For(ctx, duration(there)+l.d.margin); err != nil {
			return began, err
		}
		began = time.Now()
		if again, err := l.takeOver(ctx, h, there); !again {
			return began, err
		}
	}
}

// takeOver takes a lease that nobody has renewed; again tells that it is to be tried once more,
// as there is none any longer.
func (l *lock) takeOver(ctx context.Context, h driver.Holder, there *unstructured.Unstructured) (again bool, err error) {
	mine, err := l.object(h)
	if err != nil {
		return false, err
	}
	mine.SetResourceVersion(there.GetResourceVersion())
	_, err = l.client.Update(ctx, mine, metav1.UpdateOptions{FieldManager: manager})
	if apierrors.IsConflict(err) { // its holder lives, and has another clock; or somebody was faster
		there, err = l.client.Get(ctx, leaseName(l.cluster), metav1.GetOptions{})
		if err == nil && l.holder(there) != l.id {
			return false, held(there)
		}
	}
	return apierrors.IsNotFound(err), l.d.explain(err)
}

func (l *lock) object(h driver.Holder) (*unstructured.Unstructured, error) {
	who, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Format(microTime)
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": leases.GroupVersion().String(), "kind": "Lease",
		"spec": map[string]any{"holderIdentity": l.id, "leaseDurationSeconds": int64(l.d.lease / time.Second), "acquireTime": now, "renewTime": now},
	}}
	u.SetName(leaseName(l.cluster))
	u.SetNamespace(l.namespace)
	u.SetLabels(map[string]string{labelManaged: managed, labelInstance: l.cluster, labelLock: l.cluster})
	u.SetAnnotations(map[string]string{annotationHolder: string(who)})
	return u, nil
}

func (l *lock) holder(u *unstructured.Unstructured) string {
	id, _, _ := unstructured.NestedString(u.Object, "spec", "holderIdentity")
	return id
}

// duration is how long its holder trusts a lease after it was renewed.
func duration(u *unstructured.Unstructured) time.Duration {
	seconds, _, _ := unstructured.NestedInt64(u.Object, "spec", "leaseDurationSeconds")
	return time.Duration(seconds) * time.Second
}

// expired tells whether a lease seems to be over, by our clock.
func expired(u *unstructured.Unstructured) bool {
	text, _, _ := unstructured.NestedString(u.Object, "spec", "renewTime")
	renewed, err := time.Parse(time.RFC3339, text)
	return err != nil || time.Since(renewed) > duration(u)
}

func held(u *unstructured.Unstructured) error {
	return &driver.HeldError{Holder: holderOf(u)}
}

// holderOf is who has a lease, and what for.
func holderOf(u *unstructured.Unstructured) driver.Holder {
	h := driver.Holder{Who: "somebody"}
	_ = json.Unmarshal([]byte(u.GetAnnotations()[annotationHolder]), &h) // then it is somebody
	return h
}

// Lost implements driver.Lock.
func (l *lock) Lost() <-chan struct{} { return l.lost }

// renew keeps the lease, which is over at until if nobody does. It counts the time from before
// each call, so that it is not the last to know when the lease is over.
func (l *lock) renew(ctx context.Context, until time.Time) {
	defer close(l.over)
	wait := l.d.lease / renewals
	for {
		if pause.For(ctx, min(wait, max(0, time.Until(until)))) != nil {
			return
		}
		asked := time.Now()
		trying, cancel := context.WithDeadline(ctx, earlier(until, asked.Add(l.d.lease/renewals)))
		gone, err := l.again(trying)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && !gone:
			until, wait = asked.Add(l.d.lease), l.d.lease/renewals
		case gone || !time.Now().Before(until):
			l.d.o.Logger.Warn("the lock of the cluster is lost", "cluster", l.cluster, "error", err)
			l.once.Do(func() { close(l.lost) })
			return
		default:
			wait = min(renewAgain, l.d.lease/renewals)
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// again renews the lease once; gone tells that it is somebody else's, or nobody's.
func (l *lock) again(ctx context.Context) (gone bool, err error) {
	u, err := l.client.Get(ctx, leaseName(l.cluster), metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && l.holder(u) != l.id {
		return true, nil
	} else if err != nil {
		return false, err
	}
	if err := unstructured.SetNestedField(u.Object, time.Now().UTC().Format(microTime), "spec", "renewTime"); err != nil {
		return false, err
	}
	_, err = l.client.Update(ctx, u, metav1.UpdateOptions{FieldManager: manager})
	return false, err
}

// Release implements driver.Lock. A namespace that was made for the cluster goes with it, if
// there is no cluster any more.
func (l *lock) Release(ctx context.Context) error {
	l.end()
	<-l.over
	if l.client == nil {
		return nil
	}
	return l.giveBack(ctx)
}

// giveBackTries are how often it is tried: who comes next would wait for a minute.
const giveBackTries = 5

func (l *lock) giveBack(ctx context.Context) error {
	var err error
	for pauses, tries := looks(), 1; tries <= giveBackTries; tries++ {
		if err = l.giveBackOnce(ctx, tries == giveBackTries); err == nil || errors.Is(err, errStuck) || pauses.Wait(ctx) != nil {
			break
		}
	}
	return err
}

// giveBackOnce removes the namespace, if it is to go, and the lease; the lease also if the
// namespace does not go in time, or at last.
func (l *lock) giveBackOnce(ctx context.Context, last bool) error {
	u, err := l.client.Get(ctx, leaseName(l.cluster), metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && l.holder(u) != l.id {
		return nil // it is lost, or was not taken
	} else if err != nil {
		return l.d.explain(err)
	}
	uid, version := u.GetUID(), u.GetResourceVersion()
	stays := l.d.removeNamespace(ctx, l.cluster, l.namespace)
	if stays != nil {
		if stays = fmt.Errorf("namespace %s: it may still be there: %w", l.namespace, stays); !last && !errors.Is(stays, errStuck) {
			return stays
		}
	}
	err = l.client.Delete(ctx, u.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		err = nil
	}
	return errors.Join(stays, l.d.explain(err))
}
