package kubetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Proxy is a way to the API server that can be cut.
type Proxy struct {
	listener net.Listener
	cluster  *Cluster

	mu     sync.Mutex
	conns  map[net.Conn]bool
	broken bool
	closed bool
	all    sync.WaitGroup
}

// Proxy opens another way to the API server. The caller closes it.
func (c *Cluster) Proxy() (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, cluster: c, conns: map[net.Conn]bool{}}
	p.all.Go(p.serve)
	return p, nil
}

// URL is where it listens.
func (p *Proxy) URL() string { return "https://" + p.listener.Addr().String() }

// Break cuts all connections, and those that come until Heal is called.
func (p *Proxy) Break() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = true
	p.cutLocked()
}

// Cut cuts the connections that there are.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLocked()
}

func (p *Proxy) cutLocked() {
	for c := range p.conns {
		_ = c.Close()
	}
}

// Heal lets connections through again.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = false
}

// Close cuts all and waits until nothing of it runs.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.cutLocked()
	p.mu.Unlock()
	p.all.Wait()
}

func (p *Proxy) serve() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.all.Go(func() { p.pass(c) })
	}
}

// add keeps a connection; false if it must not be.
func (p *Proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken || p.closed {
		_ = c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) remove(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// pass copies both ways until one end is closed.
func (p *Proxy) pass(near net.Conn) {
	if !p.add(near) {
		return
	}
	defer p.remove(near)
	far, err := p.cluster.Dial(context.Background(), "tcp", apiserver)
	if err != nil || !p.add(far) {
		return
	}
	defer p.remove(far)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(near, far)
		_ = near.Close()
	})
	_, _ = io.Copy(far, near)
	_ = far.Close()
	back.Wait()
}

// Dial connects to an address in the cluster's network.
func (c *Cluster) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	e := c.within(func() { conn, err = new(net.Dialer).DialContext(ctx, network, address) })
	if e != nil {
		return nil, e
	}
	return conn, err
}

// within calls f in the cluster's network: sockets that it makes are there.
func (c *Cluster) within(f func()) error {
	failed := make(chan error, 1)
	go func() {
		// The thread goes with the goroutine unless it is let loose.
		runtime.LockOSThread()
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			failed <- err
			return
		}
		defer func() { _ = own.Close() }()
		if err := unix.Setns(int(c.network.Fd()), unix.CLONE_NEWNET); err != nil {
			failed <- fmt.Errorf("enter the cluster's network: %w", err)
			return
		}
		f()
		if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		failed <- nil
	}()
	return <-failed
}
