package cgroup

// Parts is in how many hierarchies the group takes part.
func (g *Group) Parts() int { return len(g.parts) }
