package container

import "sync"

// chores are what a driver does on its own behalf, until it is closed.
type chores struct {
	mu     sync.Mutex
	closed bool
	all    sync.WaitGroup
}

// do does something in the background, unless the driver is closed.
func (c *chores) do(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.all.Go(f)
	}
}

// close takes no more, and waits for what there is, which has been told to end.
func (c *chores) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.all.Wait()
}
