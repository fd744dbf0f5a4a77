package azure

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
)

// The lock is the lease of a container in the cluster's storage account. Resource Manager
// has nothing by itself that only one can have: tags are written over, and a deployment ends
// at once. A lease is compared and set by the storage service, for a minute at a time, and so
// it ends with its holder. It is taken by Resource Manager's own call, which wants no rights
// to data. Who has it stands in the metadata of the container, for people.

// leaseTime is the longest lease that ends by itself.
const leaseTime = time.Minute

// Metadata of the container of the lock.
const (
	metaWho   = "navvywho"
	metaWhat  = "navvywhat"
	metaSince = "navvysince"
)

// leaseCall is the body of a call for a lease, and leaseAnswer what comes of it.
type leaseCall struct {
	Action   string `json:"action"`
	ID       string `json:"leaseId,omitempty"`
	Proposed string `json:"proposedLeaseId,omitempty"`
	Duration int    `json:"leaseDuration,omitempty"`
}

type leaseAnswer struct {
	ID string `json:"leaseId"`
}

// whatDestroy is what somebody does, as driver.Holder has it, who removes a cluster.
const whatDestroy = "destroy"

// Lock implements driver.Driver. The resource group and the storage account of the lock are
// made if they are missing, but not to destroy what there is not; a lock that is released while
// there is no cluster removes them.
func (d *Driver) Lock(ctx context.Context, cluster string, h driver.Holder) (driver.Lock, error) {
	claimed, err := d.claim(ctx, cluster, h)
	if err != nil {
		return nil, err
	}
	if claimed == nil {
		return noLock(), nil
	}
	group := str(claimed.Name)
	if err := d.support(ctx, cluster, group, normal(str(claimed.Location))); err != nil {
		return nil, err
	}
	l := &lock{d: d, cluster: cluster, group: group, names: d.names(cluster, group), lost: make(chan struct{}), over: make(chan struct{})}
	l.path = d.lockPath(l.names, group)
	began, err := l.take(ctx, h)
	if err != nil {
		return nil, err
	}
	renewing, end := context.WithCancel(context.WithoutCancel(ctx))
	l.end = end
	go l.renew(renewing, began.Add(leaseTime))
	return l, nil
}

// claim finds or makes the resource group for the lock; nil if there is nothing to be locked.
func (d *Driver) claim(ctx context.Context, cluster string, h driver.Holder) (*armresources.ResourceGroup, error) {
	group, location := d.group(cluster), d.o.Location
	found, err := d.find(ctx, cluster)
	destroys := h.What == whatDestroy
	switch {
	case err != nil:
		return nil, err
	case found != nil && !destroys && d.placed() && !equalFold(str(found.Name), group):
		return nil, elsewhere(cluster, str(found.Name), group)
	case found != nil:
		group = str(found.Name)
	case destroys:
		location = "" // nothing is made only to be removed
	}
	claimed, err := d.claimGroup(ctx, cluster, group, location)
	if location == "" && errors.Is(err, navvy.ErrNotFound) || found == nil && destroys && errors.Is(err, navvy.ErrExists) {
		return nil, nil // Put makes no group without a location either
	}
	return claimed, err
}

// take takes the lease, says who has it, and tells from when on it counts. That may take long, as
// calls are repeated: at least half of the minute is left for the first renewal.
func (l *lock) take(ctx context.Context, h driver.Holder) (began time.Time, err error) {
	d, what := l.d, "the lock of the cluster "+l.cluster
	began = time.Now()
	l.id, err = l.acquire(ctx)
	if isHeld(err) {
		return began, d.heldBy(ctx, what, l.path)
	}
	if err != nil {
		return began, d.failed(what, "take it", err)
	}
	told := map[string]any{"properties": map[string]any{"metadata": map[string]string{
		metaWho: ascii(h.Who), metaWhat: ascii(h.What), metaSince: h.Since.UTC().Format(time.RFC3339),
	}}}
	step, late := "say who has it", false
	err = d.call(ctx, http.MethodPatch, l.path, versions[typeAccount], told, nil)
	for err == nil && time.Since(began) > leaseTime/2 {
		began, step, late = time.Now(), "renew it", true
		_, err = l.ask(ctx, leaseCall{Action: "Renew", ID: l.id})
	}
	switch {
	case err == nil:
		return began, nil
	case late && isOver(err): // the minute was over, and somebody else has it
		return began, d.heldBy(ctx, what, l.path)
	}
	return began, errors.Join(d.failed(what, step, err), l.release(context.WithoutCancel(ctx)))
}

// noLock is one of what there is not.
func noLock() *lock {
	over := make(chan struct{})
	close(over)
	return &lock{end: func() {}, over: over}
}

// ascii is what fits into metadata, which go through headers.
func ascii(text string) string {
	out := []byte(text)
	for i, c := range out {
		if c < 0x20 || c > 0x7e {
			out[i] = '?'
		}
	}
	return string(out)
}

// isHeld tells whether somebody else has the lease.
func isHeld(err error) bool {
	var answer *azcore.ResponseError
	return errors.As(err, &answer) && (equalFold(answer.ErrorCode, "LeaseAlreadyPresent") || equalFold(answer.ErrorCode, "LeaseIsBreakingAndCannotBeAcquired"))
}

// heldBy is the error that says who has the lock.
func (d *Driver) heldBy(ctx context.Context, what, path string) error {
	var c child
	if err := d.call(ctx, http.MethodGet, path, versions[typeAccount], nil, &c); err != nil {
		return d.failed(what, "look who has it", err)
	}
	meta := func(name string) string { return text(at(c.Properties, "metadata", name)) }
	h := driver.Holder{Who: meta(metaWho), What: meta(metaWhat)}
	h.Since, _ = time.Parse(time.RFC3339, meta(metaSince)) // by our own; else nobody knows
	if h.Who == "" {
		h.Who = "somebody"
	}
	return &driver.HeldError{Holder: h}
}

// lock is a lease that is renewed.
type lock struct {
	d              *Driver
	cluster, group string
	names          names
	path, id       string

	end  context.CancelFunc
	over chan struct{} // closed when nobody renews any more
	lost chan struct{}
	once sync.Once
}

// Lost implements driver.Lock.
func (l *lock) Lost() <-chan struct{} { return l.lost }

func (l *lock) ask(ctx context.Context, c leaseCall) (string, error) {
	var answer leaseAnswer
	err := l.d.call(ctx, http.MethodPost, l.path+"/lease", versions[typeAccount], c, &answer)
	return answer.ID, err
}

// acquire takes the lease under an id of our own: if the answer is lost and the call is
// repeated, the service sees that it is we who have it.
func (l *lock) acquire(ctx context.Context) (string, error) {
	return l.ask(ctx, leaseCall{Action: "Acquire", Proposed: randomID(), Duration: int(leaseTime / time.Second)})
}

// randomID is a UUID of version 4.
func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// renew keeps the lease, which is over at until if nobody does. It counts the time from before
// each call, so that it is not the last to know when the lease is over.
func (l *lock) renew(ctx context.Context, until time.Time) {
	defer close(l.over)
	ticker := time.NewTicker(leaseTime / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-time.After(time.Until(until)):
		}
		asked := time.Now()
		trying, cancel := context.WithDeadline(ctx, until)
		_, err := l.ask(trying, leaseCall{Action: "Renew", ID: l.id})
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			until = asked.Add(leaseTime)
		case !isPassing(err) || !time.Now().Before(until):
			l.d.o.Logger.Warn("the lock of the cluster is lost", "cluster", l.cluster, "error", err)
			l.once.Do(func() { close(l.lost) })
			return
		}
	}
}

// isOver tells whether a lease is somebody else's by now, or nobody's.
func isOver(err error) bool {
	status := statusOf(err)
	return status == http.StatusNotFound || status == http.StatusConflict || status == http.StatusPreconditionFailed
}

// release gives the lease back; nil if it is lost, or gone with the cluster.
func (l *lock) release(ctx context.Context) error {
	_, err := l.ask(ctx, leaseCall{Action: "Release", ID: l.id})
	if isOver(err) {
		return nil
	}
	return l.d.failed("the lock of the cluster "+l.cluster, "give it back", err)
}

// Release implements driver.Lock. What was made for the lock alone goes with it.
func (l *lock) Release(ctx context.Context) error {
	l.end()
	<-l.over
	if l.d == nil { // of what there is not
		return nil
	}
	if _, err := l.ask(ctx, leaseCall{Action: "Renew", ID: l.id}); isOver(err) {
		return nil // it is lost, or gone with the cluster
	}
	now, err := l.d.groups.Get(ctx, l.group, nil)
	if err == nil && tagOf(now.Tags, tagCluster) == "" && tagOf(now.Tags, tagLock) == l.cluster {
		return l.d.removeMark(ctx, l.cluster, &handle{group: l.group, names: l.names})
	}
	return l.release(ctx)
}
