package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
)

// telling is a driver that tells what would change.
type telling struct {
	driver.Driver
	now, most atomic.Int32
}

func (d *telling) Preview(_ context.Context, cluster string, r *driver.Resource) ([]string, error) {
	defer d.now.Add(-1)
	for n := d.now.Add(1); ; {
		if most := d.most.Load(); n <= most || d.most.CompareAndSwap(most, n) {
			break
		}
	}
	if r.Kind == "server" {
		return nil, fmt.Errorf("no more of these: %w", navvy.ErrExhausted)
	}
	return []string{cluster + " gets " + r.ID.String()}, nil
}

// A provider that can tell is asked about what is put, and not about what is removed, and not
// about hundreds.
func TestPreview(t *testing.T) {
	t.Parallel()
	p, err := newPlan("c", wanted(), &driver.World{Resources: []driver.Observed{{ID: mark, Health: driver.HealthOK}, {ID: id("queue", "old"), Health: driver.HealthOK}}})
	if err != nil {
		t.Fatal(err)
	}
	d := &telling{}
	list, left := New(d, &Options{AtOnce: 2}).Preview(t.Context(), p)
	if len(list) != 3 || left != 0 || list[0].ID != server || !errors.Is(list[0].Err, navvy.ErrExhausted) || list[2].ID != worker || list[2].Lines[0] != "c gets worker 1" {
		t.Errorf("%+v, %d left", list, left)
	}
	if d.most.Load() > 2 {
		t.Errorf("%d were asked about at once", d.most.Load())
	}
	var many []driver.Resource
	for i := range 30 {
		many = append(many, driver.Resource{ID: id("worker", fmt.Sprint(i))})
	}
	if p, err = newPlan("c", many, &driver.World{}); err != nil {
		t.Fatal(err)
	}
	if list, left := New(d, nil).Preview(t.Context(), p); len(list) != mostPreviews || left != 30-mostPreviews {
		t.Errorf("asked about %d, %d left", len(list), left)
	}
	if list, left := New(struct{ driver.Driver }{}, nil).Preview(t.Context(), p); list != nil || left != 0 {
		t.Errorf("one that cannot tell says %+v, %d left", list, left)
	}
}
