package process

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// regroup is how long a member of a group is waited for before the group is
// looked at again: a member that leaves its group tells nobody.
const regroup = time.Second

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
	var v vigil
	for !p.groupGone() {
		now, err := rosterOf(p.pid)
		switch {
		case err != nil || len(now.members) > 0:
			v = vigil{}
			err = p.waitMembers(ctx, now.members)
		case v.over(now):
			// Only zombies, which their parent does not collect: they run and write nothing.
			p.markOver()
			return nil
		default:
			err = pause(ctx, time.Millisecond<<v.looks)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// vigil is a row of looks at a group that found nobody alive. One alone proves
// nothing: who is listed may end before its turn, after a fork of one who is not.
type vigil struct {
	looks      int
	last, stay map[int]uint64 // the zombies of the last look, and those of all
}

// lastLook is how many looks have to find the same zombie, if none can be sure:
// on some hosts processes come and go all the time.
const lastLook = 10

// over adds a look, and tells whether nobody is alive: each that could have
// forked was seen to have ended before the look began.
func (v *vigil) over(now roster) bool {
	sure := v.looks > 0 && !now.missed && len(common(now.ended, v.last)) == len(now.ended)
	if v.looks == 0 {
		v.stay = now.ended
	}
	v.last, v.stay = now.ended, common(now.ended, v.stay)
	v.looks++
	if len(v.stay) == 0 {
		v.looks = 0 // the group is not empty, and not because of a zombie: somebody escapes the looks
	}
	return sure || v.looks == lastLook
}

func common(a, b map[int]uint64) map[int]uint64 {
	both := make(map[int]uint64)
	for pid, start := range a {
		if s, ok := b[pid]; ok && s == start {
			both[pid] = start
		}
	}
	return both
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
