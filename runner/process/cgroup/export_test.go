package cgroup

import "path/filepath"

// Parts is in how many hierarchies the group takes part.
func (g *Group) Parts() int { return len(g.parts) }

// Sweep does what another tree of this one's family does when it begins.
func (t *Tree) Sweep() {
	for _, h := range t.all {
		h.sweep(filepath.Dir(h.place), map[string]bool{})
	}
}
