package process

import (
	"bytes"
	"os"
	"strconv"
	"sync"
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
	for _, pid := range all {
		s, err := readStat(pid)
		if err != nil || s.ended() || pid == os.Getpid() {
			continue
		}
		p.stats[pid] = s
		p.groups[s.group] = append(p.groups[s.group], pid)
		if token := tokenOf(pid); token != "" {
			p.bearers[token] = append(p.bearers[token], pid)
		}
	}
	return p, nil
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
