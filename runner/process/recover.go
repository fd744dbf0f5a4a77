package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// handleVersion begins each handle: version, boot, process id and the bounds of
// its start time, with a space between each.
const handleVersion = 1

func appendHandle(dst []byte, boot string, b Birth) []byte {
	return fmt.Appendf(dst, "%d %s %d %d %d", handleVersion, boot, b.PID, b.After, b.Before)
}

// parseHandle reads what appendHandle wrote. The error wraps navvy.ErrCorrupt.
func parseHandle(handle []byte) (boot string, b Birth, err error) {
	var version int
	if n, _ := fmt.Sscan(string(handle), &version); n != 1 || version != handleVersion {
		return "", Birth{}, fmt.Errorf("process: handle %q is not of version %d: %w", handle, handleVersion, navvy.ErrCorrupt)
	}
	if _, err := fmt.Sscan(string(handle), &version, &boot, &b.PID, &b.After, &b.Before); err != nil || b.PID <= 1 {
		return "", Birth{}, fmt.Errorf("process: handle %q is cut short: %w", handle, navvy.ErrCorrupt)
	}
	return boot, b, nil
}

// Recover implements driver.Driver. Processes are never adopted: what is left of
// the attempt is killed, and gone when Recover returns navvy.ErrNotFound. That
// is its process group, if it began in this boot; whatever has the attempt's token in its environment,
// wherever it went; the groups that such processes lead; and its control group,
// which is removed. What cannot be proved to be the attempt's is left alone.
func (d *Driver) Recover(ctx context.Context, handle []byte, t *driver.Task) (driver.Execution, error) {
	var birth Birth
	if handle != nil {
		boot, b, err := parseHandle(handle)
		if err != nil {
			return nil, err
		}
		now, err := bootID()
		if err != nil {
			return nil, err
		}
		// The number of a process means nothing in another boot. The token still
		// does, and a container may have been told a boot id of its own.
		if boot == now {
			birth = b
		}
	}
	err := d.endGroup(ctx, t.Token)
	if err == nil {
		err = d.endAll(ctx, birth, t.Token)
	}
	if err == nil {
		err = d.boxes.clear(t.Token)
	}
	if err != nil {
		return nil, fmt.Errorf("process: end what is left of %s: %w", t.Token, err)
	}
	return nil, navvy.ErrNotFound
}

// endGroup ends the control group of an attempt, if there is one.
func (d *Driver) endGroup(ctx context.Context, token string) error {
	if d.groups == nil || token == "" {
		return nil
	}
	g, err := d.groups.Find(token)
	if err != nil {
		return nil //nolint:nilerr // there is none
	}
	return g.End(ctx)
}

// endAll kills the group that was born as b, unless that is zero, and all that
// the token leads to, until there is nothing left.
func (d *Driver) endAll(ctx context.Context, b Birth, token string) error {
	for {
		p, err := d.census.take()
		if err != nil {
			return err
		}
		var doomed []*pidfd
		for _, group := range p.groupsOf(b, token) {
			held := openMembers(group, p.groups[group])
			doomed = append(doomed, held...)
			if len(held) > 0 { // and as long as they are, the number is that group's
				err = errors.Join(err, killed(unix.Kill(-group, unix.SIGKILL)))
			}
		}
		for _, f := range openPidfds(p.bearers[token]) {
			// The id may have changed hands since the count; from here on it cannot.
			if token == "" || tokenOf(environOf(f.pid, time.Now().Add(execTime))) != token {
				f.close()
				continue
			}
			doomed = append(doomed, f)
			err = errors.Join(err, killed(unix.PidfdSendSignal(f.fd, unix.SIGKILL, nil, 0)))
		}
		if err != nil || len(doomed) == 0 {
			closeAll(doomed)
			return err
		}
		if err := waitAll(ctx, doomed); err != nil {
			return err
		}
	}
}

// killed is the error of a kill. One that came too late is none.
func killed(err error) error {
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("it runs as another user: %w", navvy.ErrDenied)
	}
	return err
}

// groupsOf lists the process groups that are the attempt's.
func (p *people) groupsOf(b Birth, token string) []int {
	var groups []int
	if p.bore(b, token) {
		groups = append(groups, b.PID)
	}
	if token == "" {
		return groups
	}
	for _, pid := range p.bearers[token] {
		if p.stats[pid].group == pid && pid != b.PID {
			groups = append(groups, pid)
		}
	}
	return groups
}

// bore tells whether the group with b's number is the one that b began. A number
// is not given away as long as a group bears it, so a leader that is there
// decides; without one, a member with the attempt's token does.
func (p *people) bore(b Birth, token string) bool {
	if b.PID == 0 {
		return false
	}
	if leader, err := readStat(b.PID); err == nil {
		return b.matches(leader)
	}
	return slices.ContainsFunc(p.groups[b.PID], func(pid int) bool {
		return token != "" && slices.Contains(p.bearers[token], pid)
	})
}
