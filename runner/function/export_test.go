package function

import (
	"context"
	"os"
	"runtime"

	"github.com/navvy-run/navvy/runner/driver"
	"golang.org/x/sys/unix"
)

// Abandon closes navvy's end of the connection to the host of a call, as navvy's death does.
func Abandon(x driver.Execution) {
	c, _ := x.(*call)
	for _, file := range []*os.File{c.host.life[0], c.host.socket} {
		raw, err := file.SyscallConn()
		if err != nil {
			return
		}
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	}
}

// CloseEarly closes a driver with one host whose place a call has, which then goes on to
// start that host, while another call waits. It returns what they get.
func CloseEarly(ctx context.Context, d *Driver, t *driver.Task) (starts, waits error) {
	if _, err := d.pool.take(ctx, "a", ""); err != nil {
		return err, err
	}
	waiting := make(chan error)
	go func() {
		_, err := d.pool.take(ctx, "b", "")
		waiting <- err
	}()
	for waits := 0; waits == 0; runtime.Gosched() {
		d.pool.mu.Lock()
		waits = len(d.pool.waiting)
		d.pool.mu.Unlock()
	}
	d.pool.close()
	waits = <-waiting
	_, starts = d.newHost(ctx, "a", t)
	d.pool.failed()
	return starts, waits
}

// AwaitIdle waits until no host is left.
func AwaitIdle(d *Driver) { d.pool.all.Wait() }
