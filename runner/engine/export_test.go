package engine

// Rebooted has a driver believe that its machine has been started again since it was made.
func Rebooted(d *Driver) { d.boot = "another" }

// Held tells whether an attempt of this process has a container.
func Held(d *Driver, id string) bool { return d.held.held(id) }
