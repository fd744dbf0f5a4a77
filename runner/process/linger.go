package process

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// regroup is how long a member of a group is waited for before the group is
// looked at again: a member that leaves its group tells nobody.
const regroup = time.Second

// lastLook is how many looks in a row have to find nobody alive, if none of them
// can be sure: on a host where processes come and go all the time.
const lastLook = 10

// linger waits until the group is empty, after its main process has ended and
// left others behind: it waits for one member after the other to end, and then
// looks whether there are new ones.
func (p *Process) linger(ctx context.Context) error {
	if p.group != nil {
		if err := p.group.AwaitEmpty(ctx); err != nil {
			return err
		}
		p.markOver()
		return nil
	}
	var before roster
	for looks := 0; !p.groupGone(); {
		now, err := rosterOf(p.pid)
		if err != nil || len(now.members) > 0 {
			looks = 0
			if err := p.waitMembers(ctx, now.members); err != nil {
				return err
			}
			continue
		}
		if looks++; now.nobodySince(before) || looks == lastLook {
			// Only zombies, which their parent does not collect: they run and write nothing.
			p.markOver()
			return nil
		}
		before = now
		if err := pause(ctx, time.Millisecond<<looks); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (p *Process) groupGone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Members whose parent died are ours to collect if this is the init of a
	// container, or a subreaper.
	for {
		if pid, err := unix.Wait4(-p.pid, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
			break
		}
	}
	p.over = groupEmpty(p.pid) || p.renumbered()
	return p.over
}

func (p *Process) markOver() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// renumbered tells whether the number of the group belongs to another one now,
// which begins with a process of that id; a number whose group has members is
// not given away. It is for after the main process was reaped. mu is held.
func (p *Process) renumbered() bool {
	_, err := readStat(p.pid)
	return err == nil
}

// waitMembers waits until the processes have ended, or for the time of regroup.
func (p *Process) waitMembers(outer context.Context, members []int) error {
	ctx, cancel := context.WithTimeout(outer, regroup)
	defer cancel()
	for _, f := range openMembers(p.pid, members) {
		_ = f.wait(ctx, f.ended)
		f.close()
	}
	if len(members) == 0 {
		<-ctx.Done()
	}
	return outer.Err()
}
