package enginetest

import (
	"fmt"
	"net"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Listen listens on the loopback of the engine's own network, for what the engine calls. Who calls
// it closes it.
func (e *Engine) Listen(t testing.TB) net.Listener {
	t.Helper()
	type answer struct {
		listener net.Listener
		err      error
	}
	answers := make(chan answer, 1)
	go func() {
		runtime.LockOSThread() // for good: a thread that has been elsewhere ends with its goroutine
		l, err := listenAt(fmt.Sprintf("/proc/%d/ns/net", e.first.Process.Pid))
		answers <- answer{l, err}
	}()
	a := <-answers
	if a.err != nil {
		t.Fatal(a.err)
	}
	return a.listener
}

// listenAt moves this thread into a network, and listens there.
func listenAt(network string) (net.Listener, error) {
	fd, err := unix.Open(network, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	return net.Listen("tcp4", "127.0.0.1:0")
}
