package cluster

import (
	"context"
	"sync"

	"github.com/navvy-run/navvy/cluster/driver"
)

// Preview is what a provider itself says that a change would do.
type Preview struct {
	driver.ID
	Lines []string // for people; none if it says that nothing would change
	Err   error    // why it would refuse the change, or could not tell
}

// mostPreviews bounds how many changes of a plan a provider is asked about: hundreds of workers
// are all alike.
const mostPreviews = 20

// Preview asks the provider what the changes of a plan would do, in their order. It changes
// nothing. There are none if the provider cannot tell. left is how many changes it was not asked
// about, since there are many.
func (c *Controller) Preview(ctx context.Context, p *Plan) (list []Preview, left int) {
	d, ok := c.driver.(driver.Previewer)
	if !ok {
		return nil, 0
	}
	var of []*driver.Resource
	for i := range p.Changes {
		switch r := p.Changes[i].resource; {
		case r == nil: // it is removed
		case len(of) < mostPreviews:
			of = append(of, r)
		default:
			left++
		}
	}
	list = make([]Preview, len(of))
	room := make(chan struct{}, c.opts.AtOnce)
	var all sync.WaitGroup
	for i, r := range of {
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			list[i].ID = r.ID
			list[i].Lines, list[i].Err = d.Preview(ctx, p.Cluster, r)
		})
	}
	all.Wait()
	return list, left
}
