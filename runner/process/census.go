package process

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"time"
)

// people are the processes of this host at one moment, less this one and those
// that have ended.
type people struct {
	stats   map[int]stat
	groups  map[int][]int    // the members of each process group
	bearers map[string][]int // who has which token in its environment
}

// census counts people. Callers that come while it does share the next count:
// after a crash a thousand attempts may ask at once.
type census struct {
	taking sync.Mutex // one at a time
	mu     sync.Mutex
	next   *func() (*people, error)
}

// take returns a count that began after the call.
func (c *census) take() (*people, error) {
	c.mu.Lock()
	if c.next == nil {
		once := sync.OnceValues(func() (*people, error) {
			c.taking.Lock()
			defer c.taking.Unlock()
			c.mu.Lock()
			c.next = nil
			c.mu.Unlock()
			return count()
		})
		c.next = &once
	}
	next := *c.next
	c.mu.Unlock()
	return next()
}

func count() (*people, error) {
	all, err := pids()
	if err != nil {
		return nil, err
	}
	p := &people{stats: make(map[int]stat, len(all)), groups: make(map[int][]int), bearers: make(map[string][]int)}
	end := time.Now().Add(execTime)
	for _, pid := range all {
		s, err := readStat(pid)
		if err != nil || s.ended() || pid == os.Getpid() {
			continue
		}
		p.stats[pid] = s
		p.groups[s.group] = append(p.groups[s.group], pid)
		if token := tokenOf(environOf(pid, end)); token != "" {
			p.bearers[token] = append(p.bearers[token], pid)
		}
	}
	return p, nil
}

// execTime bounds how long a count waits for processes that are in the middle of their exec,
// where they have no environment: longer takes only who waits for a disk.
const execTime = 2 * time.Second

// environOf reads the environment of a process; empty if it has none, has ended, or is
// another user's. One in the middle of its exec is waited for until the end.
func environOf(pid int, end time.Time) []byte {
	for {
		raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err != nil || len(raw) > 0 {
			return raw
		}
		if s, err := readStat(pid); err != nil || !s.inExec() || time.Now().After(end) {
			return nil
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // the kernel tells nobody
	}
}

// tokenOf is the token in an environment; empty if there is none. A process that wrote over
// its environment hides it.
func tokenOf(environ []byte) string {
	for pair := range bytes.SplitSeq(environ, []byte{0}) {
		if token, ok := bytes.CutPrefix(pair, []byte(EnvToken+"=")); ok {
			return string(token)
		}
	}
	return ""
}
