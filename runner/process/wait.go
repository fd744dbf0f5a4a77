package process

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// Wait blocks until the group is empty and all output has been handed on. The
// usage that it returns is that of the control group, or, without one, of the
// main process and of those of its descendants that were waited for. When ctx
// ends Wait returns its error, and the process goes on; it may still be stopped.
// Any other error says that the end is not known.
func (p *Process) Wait(ctx context.Context) (driver.End, error) {
	if !p.endsSoon() || !p.isOver() {
		return p.waitLong(ctx)
	}
	_ = unix.Close(p.pidfd)
	p.settle()
	if len(p.early)+p.out[0].waiting()+p.out[1].waiting() == 0 {
		p.closeStreams()
		return p.end, p.hostErr
	}
	return p.finish(ctx, p.copyOut())
}

func (p *Process) isOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over
}

// waitLong is Wait for what did not end soon: everything goes through Go's poller.
func (p *Process) waitLong(ctx context.Context) (driver.End, error) {
	p.out[0].poll()
	p.out[1].poll()
	copied := p.copyOut()
	unwatch := p.watchOOM()
	err := p.waitGroup(ctx)
	unwatch()
	if err != nil {
		return driver.End{}, err
	}
	p.settle()
	p.out[0].drain()
	p.out[1].drain()
	return p.finish(ctx, copied)
}

// copyOut begins to hand on the output and returns a channel that is closed at its end.
func (p *Process) copyOut() <-chan struct{} {
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		for _, e := range p.early {
			p.out[e.which].give(e.bytes)
		}
		p.early = nil
		var streams sync.WaitGroup
		if p.out[1].read > 0 {
			streams.Go(p.out[1].copy)
		}
		if p.out[0].read > 0 {
			p.out[0].copy()
		}
		streams.Wait()
	}()
	return copied
}

// finish waits for the output, which may be held up by whoever takes it.
func (p *Process) finish(ctx context.Context, copied <-chan struct{}) (driver.End, error) {
	select {
	case <-copied:
		return p.end, p.hostErr
	case <-ctx.Done():
		return driver.End{}, ctx.Err()
	}
}

// waitGroup waits until the main process has ended and its group is empty.
func (p *Process) waitGroup(ctx context.Context) error {
	main := newPidfd(p.pid, p.pidfd)
	if !p.reaped {
		if err := main.wait(ctx, p.reap); err != nil {
			go p.collect(main) //nolint:gosec // it outlives ctx on purpose
			return err
		}
	}
	main.close()
	if p.isOver() {
		return nil
	}
	if p.alone {
		_ = p.Stop(true) // of what it has no right to kill it waits for the end
	}
	err := p.linger(ctx)
	if err != nil && p.group != nil {
		go p.collectGroup() //nolint:gosec // it outlives ctx on purpose
	}
	return err
}

// collect takes the end of a process that nobody waits for any more, so that it
// does not stay a zombie.
func (p *Process) collect(main *pidfd) {
	_ = main.file.SetReadDeadline(time.Time{}) // which the end of the context had set
	_ = main.wait(context.Background(), p.reap)
	main.close()
	p.collectGroup()
	p.out[0].drain()
	p.out[1].drain()
}

// collectGroup removes the control group of a process that nobody waits for any more.
func (p *Process) collectGroup() {
	if p.group != nil && p.group.AwaitEmpty(context.Background()) == nil {
		_ = p.group.Remove() // else the next tree of its name clears it away
	}
}

// exitOf reads how a process ended.
func exitOf(status unix.WaitStatus) navvy.Exit {
	if status.Signaled() {
		return navvy.Exit{Signal: int(status.Signal())}
	}
	return navvy.Exit{Code: status.ExitStatus()}
}

// lagging is how far the kernel's counters of memory may lag behind, in KiB.
const lagging = 1 << 10

// blockSize is what the kernel counts the blocks of a usage in (getrusage(2)).
const blockSize = 512

// usageOf reads what a process used. The kernel counts its peak memory from that
// of the process that forked it, so a peak that is no higher than ours, or hardly,
// since the kernel's counters lag behind, says nothing and is left out.
func usageOf(r *unix.Rusage) navvy.Usage {
	u := navvy.Usage{
		User: time.Duration(r.Utime.Nano()), System: time.Duration(r.Stime.Nano()),
		Read: r.Inblock * blockSize, Written: r.Oublock * blockSize,
	}
	var own unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &own) == nil && r.Maxrss > own.Maxrss+own.Maxrss/8+lagging {
		u.MaxMemory = r.Maxrss << 10
	}
	return u
}
