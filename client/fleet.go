package client

import (
	"context"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// FleetWorker is a worker of a server.
type FleetWorker struct {
	Name       string
	State      string // ready, draining, quarantined, silent, lost or left; see api/navvy/v1/fleet.proto
	Kinds      []string
	Slots      int // how many attempts it takes at once; 0 leaves it to the server
	Running    int64
	Version    string
	Abilities  []navvy.KindAbilities
	Offer      navvy.Offer // what it has
	Used       navvy.Offer // what its attempts have of that
	Quarantine string      // why it gets no tasks for a while; empty if it does
	// Joined and Connected are when it was connected for the first time, and last; zero
	// for one in the server's process.
	Joined, Connected time.Time
}

// Fleet gives all workers, by name.
func (c *Client) Fleet(ctx context.Context) ([]FleetWorker, error) {
	resp, err := c.fleet.List(ctx, &navvyv1.FleetListRequest{})
	if err != nil {
		return nil, api.FromWire(err)
	}
	list := make([]FleetWorker, len(resp.GetWorkers()))
	for i, m := range resp.GetWorkers() {
		s := m.GetStatus()
		list[i] = FleetWorker{
			Name: s.GetName(), State: m.GetState(), Kinds: s.GetKinds(), Slots: int(s.GetSlots()), Running: s.GetRunning(),
			Version: s.GetVersion(), Abilities: api.ToAbilities(s.GetAbilities()),
			Offer: api.ToOffer(s.GetOffer()), Used: api.ToOffer(s.GetUsed()), Quarantine: s.GetQuarantine(),
			Joined: toTime(m.GetJoined()), Connected: toTime(m.GetConnected()),
		}
	}
	return list, nil
}

// DrainWorker tells a worker to leave: it gets no further tasks, and ends when what it
// runs has ended. ErrUnavailable if it is not connected.
func (c *Client) DrainWorker(ctx context.Context, name string) error {
	_, err := c.fleet.Drain(ctx, &navvyv1.FleetDrainRequest{Name: name})
	return api.FromWire(err)
}

// RemoveWorker ends a worker's session, gives what it runs to others, revokes its
// certificates and forgets it.
func (c *Client) RemoveWorker(ctx context.Context, name string) error {
	_, err := c.fleet.Remove(ctx, &navvyv1.FleetRemoveRequest{Name: name})
	return api.FromWire(err)
}
