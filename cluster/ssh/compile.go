package ssh

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/local"
)

// The kinds of resources that this provider has beside those of this machine.
const (
	kindHost   = "host"
	kindTunnel = "tunnel"
	kindWorker = "worker"
)

// How a worker reaches the server, as people are told.
const (
	wayProperty   = "reaches the server"
	throughTunnel = "through the tunnel"
)

var tunnelID = driver.ID{Kind: kindTunnel, Name: "tunnel"}

// Compile implements local.Elsewhere: the tunnels, the hosts that get workers, and the workers,
// which the hosts have in turns.
func (h *hosts) Compile(c *config.Cluster, w *local.Workers) ([]driver.Resource, error) {
	if c.SSH == nil || len(c.SSH.Hosts) == 0 {
		return nil, fmt.Errorf("ssh.hosts: it is missing: the machines for the workers, as [USER@]HOST[:PORT]: %w", navvy.ErrInvalid)
	}
	sum, err := h.program()
	if err != nil {
		return nil, err
	}
	places, err := h.places(c)
	if err != nil {
		return nil, err
	}
	k := &compiled{c: c, w: w, program: shortSum(sum)}
	if w.Server != (driver.ID{}) && (c.SSH.Tunnel == nil || *c.SSH.Tunnel) {
		k.tunnel(places)
	}
	for _, p := range places {
		k.host(p, sum)
	}
	for i := range c.Workers.Count {
		k.worker(fmt.Sprintf("worker-%03d", i+1), places[i%len(places)])
	}
	return k.list, nil
}

// places are the hosts that get workers.
func (h *hosts) places(c *config.Cluster) ([]*place, error) {
	beside := func(path string) string {
		if below, home := strings.CutPrefix(path, "~/"); home { // as ssh has it
			return filepath.Join(h.o.Home, below)
		}
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(c.Dir, path)
	}
	names := map[string]string{}
	var list []*place
	for i, text := range c.SSH.Hosts {
		p, err := h.place(text, beside(c.SSH.Identity), beside(c.SSH.KnownHosts))
		if err != nil {
			return nil, fmt.Errorf("ssh.hosts[%d]: %w", i, err)
		}
		if other, there := names[p.safe()]; there {
			return nil, fmt.Errorf("ssh.hosts[%d]: %s and %s are too much alike: take one out: %w", i, other, text, navvy.ErrInvalid)
		}
		names[p.safe()] = text
		list = append(list, p)
	}
	return list[:min(len(list), c.Workers.Count)], nil
}

// compiled is what a cluster consists of elsewhere.
type compiled struct {
	c       *config.Cluster
	w       *local.Workers
	program string
	tunnels bool
	list    []driver.Resource
}

func shortSum(sum string) string { return "sha256:" + sum[:min(16, len(sum))] }

func hostID(p *place) driver.ID { return driver.ID{Kind: kindHost, Name: p.Text} }

func (k *compiled) tunnel(places []*place) {
	k.tunnels = true
	names := make([]string, len(places))
	for i, p := range places {
		names[i] = p.Text
	}
	k.list = append(k.list, driver.Resource{
		ID: tunnelID, Needs: []driver.ID{k.w.Mark, k.w.Server}, Spec: &tunnelPart{places: places},
		Properties: driver.Properties{"program": k.program, "to": cmp.Or(strings.Join(names, " "), "nowhere"), "keys": keysText(k.c)},
	})
}

// keysText says with which files hosts are reached.
func keysText(c *config.Cluster) string {
	return cmp.Or(c.SSH.Identity, "those of ssh") + ", " + cmp.Or(c.SSH.KnownHosts, "known_hosts of ssh")
}

func (k *compiled) host(p *place, sum string) {
	k.list = append(k.list, driver.Resource{
		ID: hostID(p), Needs: []driver.ID{k.w.Mark}, Spec: &hostPart{place: p, sum: sum},
		Properties: driver.Properties{"address": p.Host.String(), "program": k.program, "keys": keysText(k.c)},
	})
}

func (k *compiled) worker(name string, p *place) {
	w := &workerPart{place: p, common: k.w, server: k.w.Server != (driver.ID{}), program: k.program}
	props := maps.Clone(k.w.Properties)
	props["host"], props["program"] = p.Text, k.program
	needs := append(slices.Clone(k.w.Needs), hostID(p))
	switch {
	case k.tunnels:
		needs = append(needs, tunnelID)
		props[wayProperty] = throughTunnel
	case w.server:
		w.direct = k.c.SSH.Server
		if _, _, err := net.SplitHostPort(w.direct); err == nil {
			w.directPort = true
		}
		props[wayProperty] = w.direct
	}
	k.list = append(k.list, driver.Resource{ID: driver.ID{Kind: kindWorker, Name: name}, Needs: needs, Properties: props, Spec: w})
}
