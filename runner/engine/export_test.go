package engine

// Held tells whether an attempt of this process has a container.
func Held(d *Driver, id string) bool { return d.held.held(id) }
