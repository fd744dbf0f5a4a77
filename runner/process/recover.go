package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"

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
// is its process group, and whatever has the attempt's token in its
// environment, wherever it went. A process that cannot be proved to be the
// attempt's is left alone.
func (d *Driver) Recover(ctx context.Context, handle []byte, t *driver.Task) (driver.Execution, error) {
	if handle != nil {
		boot, birth, err := parseHandle(handle)
		if err != nil {
			return nil, err
		}
		now, err := bootID()
		if err != nil {
			return nil, err
		}
		if boot != now {
			return nil, navvy.ErrNotFound // processes end with the machine
		}
		if err := d.endGroup(ctx, birth, t.Token); err != nil {
			return nil, err
		}
	}
	if err := d.endMarked(ctx, t.Token); err != nil {
		return nil, err
	}
	return nil, navvy.ErrNotFound
}

// endGroup kills the process group that was born as b and waits until it is gone.
func (d *Driver) endGroup(ctx context.Context, b Birth, token string) error {
	for {
		members, err := groupMembers(b.PID)
		if err != nil {
			return fmt.Errorf("process: who is in group %d: %w", b.PID, err)
		}
		if len(members) == 0 || !ownGroup(b, members, token) {
			return nil
		}
		ends := openPidfds(members)
		if err := unix.Kill(-b.PID, unix.SIGKILL); err == unix.EPERM {
			closeAll(ends)
			return fmt.Errorf("process: end group %d: %w", b.PID, navvy.ErrDenied)
		}
		if err := waitAll(ctx, ends); err != nil {
			return err
		}
	}
}

// ownGroup tells whether the group with b's number is the one that b began. A
// number is not given away as long as a group bears it, so a leader that is
// there decides; without one, a member with the attempt's token does.
func ownGroup(b Birth, members []int, token string) bool {
	if leader, err := readStat(b.PID); err == nil {
		return b.matches(leader)
	}
	for _, pid := range members {
		if tokenOf(pid) == token {
			return true
		}
	}
	return false
}

// endMarked kills all processes that bear the token, until there are none.
func (d *Driver) endMarked(ctx context.Context, token string) error {
	if token == "" {
		return nil
	}
	for {
		bearers, err := d.census.take()
		if err != nil {
			return fmt.Errorf("process: who bears the token %s: %w", token, err)
		}
		ends, err := killMarked(bearers[token], token)
		if err != nil || len(ends) == 0 {
			return err
		}
		if err := waitAll(ctx, ends); err != nil {
			return err
		}
	}
}

// killMarked kills those of the processes that bear the token, and returns them.
func killMarked(bearers []int, token string) (killed []*pidfd, err error) {
	for _, f := range openPidfds(bearers) {
		// The id may have changed hands since the census; from here on it cannot.
		if err != nil || tokenOf(f.pid) != token {
			f.close()
			continue
		}
		killed = append(killed, f)
		if unix.PidfdSendSignal(f.fd, unix.SIGKILL, nil, 0) == unix.EPERM {
			err = fmt.Errorf("process: end %d: %w", f.pid, navvy.ErrDenied)
		}
	}
	if err != nil {
		closeAll(killed)
		return nil, err
	}
	return killed, nil
}

// tokenOf is the token in a process's environment; empty if it has none, has
// ended, or is another user's. A process that wrote over its environment hides it.
func tokenOf(pid int) string {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return ""
	}
	for pair := range bytes.SplitSeq(raw, []byte{0}) {
		if token, ok := bytes.CutPrefix(pair, []byte(EnvToken+"=")); ok {
			return string(token)
		}
	}
	return ""
}

// census lists the processes of this host by their tokens. Callers that come
// while one is being taken share the next: after a crash a thousand attempts
// may ask at once.
type census struct {
	taking sync.Mutex // one at a time
	mu     sync.Mutex
	next   *func() (map[string][]int, error)
}

// take returns a census that began after the call. This process is not in it.
func (c *census) take() (map[string][]int, error) {
	c.mu.Lock()
	if c.next == nil {
		once := sync.OnceValues(func() (map[string][]int, error) {
			c.taking.Lock()
			defer c.taking.Unlock()
			c.mu.Lock()
			c.next = nil
			c.mu.Unlock()
			return bearers()
		})
		c.next = &once
	}
	next := *c.next
	c.mu.Unlock()
	return next()
}

func bearers() (map[string][]int, error) {
	all, err := pids()
	if err != nil {
		return nil, err
	}
	byToken := make(map[string][]int)
	for _, pid := range all {
		if token := tokenOf(pid); token != "" && pid != os.Getpid() {
			byToken[token] = append(byToken[token], pid)
		}
	}
	return byToken, nil
}
