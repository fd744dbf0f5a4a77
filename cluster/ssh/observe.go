package ssh

import (
	"context"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"

	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/local"
)

// atOnce are the hosts that are looked at side by side.
const atOnce = 64

// looked is what was seen of a host, or why nothing was.
type looked struct {
	*seen
	err error
}

// known tells whether there is a record of the host.
func (l looked) known() bool { return l.seen != nil || l.err != nil }

// Observe implements local.Elsewhere: all hosts are looked at side by side. Of one that does not
// answer nobody knows what is on it.
func (h *hosts) Observe(ctx context.Context, v *local.View, list []local.Record) ([]driver.Observed, error) {
	h.anew()
	all := h.lookAll(ctx, v, list)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	t := h.lookTunnels(v)
	var found []driver.Observed
	wanted := map[string]bool{} // units of hosts
	tunnels := false
	for i := range list {
		r := &list[i]
		o := driver.Observed{ID: r.ID, Needs: r.Needs, Properties: maps.Clone(r.Properties), Health: driver.HealthOK}
		if o.Properties == nil {
			o.Properties = driver.Properties{}
		}
		switch r.ID.Kind {
		case kindHost:
			observeHost(all[r.ID.Name], r, &o)
		case kindTunnel:
			tunnels = true
			t.observe(v, r, all, &o)
		case kindWorker:
			wanted[r.Data[dataHost]+"\x00"+r.ID.Name] = true
			observeWorker(ctx, v, all, t, r, &o)
		}
		found = append(found, o)
	}
	if state, there := v.Unit(tunnelID.Name); there && !tunnels { // its record was lost
		o := driver.Observed{ID: tunnelID, Properties: driver.Properties{}}
		v.ObserveUnit(&state, true, "", "", &o)
		found = append(found, o)
	}
	return append(found, strangers(all, wanted)...), nil
}

// lookAll looks at all hosts that are kept.
func (h *hosts) lookAll(ctx context.Context, v *local.View, list []local.Record) map[string]looked {
	all := map[string]looked{}
	var mu sync.Mutex
	var running sync.WaitGroup
	room := make(chan struct{}, atOnce)
	for i := range list {
		r := &list[i]
		if r.ID.Kind != kindHost {
			continue
		}
		running.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			var l looked
			p, err := h.keptPlace(r.Data)
			if l.err = err; err == nil {
				l.seen, l.err = h.look(ctx, &v.Site, p, r.Data[dataSum])
			}
			mu.Lock()
			all[r.ID.Name] = l
			mu.Unlock()
		})
	}
	running.Wait()
	return all
}

func observeHost(l looked, r *local.Record, o *driver.Observed) {
	if l.err != nil {
		o.Health, o.Detail = driver.HealthUnknown, l.err.Error()
		return
	}
	observePlace(l.seen, r, o)
}

// observeWorker tells how a worker is.
func observeWorker(ctx context.Context, v *local.View, all map[string]looked, t *tunnels, r *local.Record, o *driver.Observed) {
	host := r.Data[dataHost]
	l, known := all[host]
	switch {
	case !known:
		fail(o, "its host "+host+" is not known any more")
		return
	case l.err != nil:
		o.Health, o.Detail = driver.HealthUnknown, l.err.Error()
		return
	case !l.ours:
		fail(o, "the cluster's directory on "+host+" is gone")
		return
	case l.units == nil:
		o.Health, o.Detail = driver.HealthUnknown, "the program on "+host+" is not what was copied"
		return
	}
	state, there := l.units[r.ID.Name]
	said := l.logs[r.ID.Name]
	if said == "" {
		said = "it wrote nothing"
	}
	v.ObserveUnit(&state, there, r.Data[dataUnit], said, o)
	if o.Health != driver.HealthOK {
		return
	}
	o.Detail += " on " + host
	if at := r.Data[dataPort]; at != "" {
		if elsewhere(v, r, at) {
			fail(o, "it looks for the server at "+at+", where somebody else is, or was")
			return
		}
		if t.check(v, host, at, o); o.Health == driver.HealthOK {
			id := l.workers[r.ID.Name]
			if id == nil {
				fail(o, "its directory is gone")
				return
			}
			v.ObserveJoined(ctx, *id, o)
		}
		return
	}
	if tree := r.Data[dataFiles]; tree != "" && !l.files[tree] {
		fail(o, "the directory of its service is gone")
	}
}

// elsewhere tells whether the server is not, or will not be, where a worker looks for it without
// a tunnel. A port of the file stays.
func elsewhere(v *local.View, r *local.Record, at string) bool {
	way := r.Properties[wayProperty]
	if way == throughTunnel || way == at {
		return false
	}
	_, port, _ := net.SplitHostPort(at)
	return port != strconv.Itoa(v.ServerPort()) || v.Moves()
}

func fail(o *driver.Observed, why string) { o.Health, o.Detail = driver.HealthFailed, why }

// strangers are the units on hosts that nobody has asked for, as those are that were left on a
// host which did not answer.
func strangers(all map[string]looked, wanted map[string]bool) (found []driver.Observed) {
	for _, host := range slices.Sorted(maps.Keys(all)) {
		l := all[host]
		if l.err != nil || !l.ours {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(l.units)) {
			if !wanted[host+"\x00"+name] {
				found = append(found, driver.Observed{
					ID: driver.ID{Kind: kindWorker, Name: name + besideText + host}, Needs: []driver.ID{{Kind: kindHost, Name: host}},
					Properties: driver.Properties{}, Health: driver.HealthOK, Detail: "nobody has asked for it there",
				})
			}
		}
	}
	return found
}
