package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
)

// What an attempt waits for that has begun, such as a node, or the cluster itself, nobody knows
// but its worker. Who waits for a job is told of it as well, if the job does not get on.

// How long a job may stand before its worker is asked, how long after that at most it is asked
// again, and how soon other words than those that were told are told.
const (
	firstLook   = 5 * time.Second
	longestLook = 30 * time.Second
	tellAgain   = time.Minute
)

// onlooker finds out what a job waits for, for one who waits for it. A nil told is for nobody.
type onlooker struct {
	told  chan string // what it waits for, empty for nothing, whenever that is news
	words string      // the last of that
	end   func()
}

// lookOn begins to look on, until end is called.
func (s *jobs) lookOn(ctx context.Context, id navvy.JobID) *onlooker {
	job, st, err := s.mgr.Job(ctx, id)
	if err != nil || job.Spec.Container == nil { // others begin at once, or do not begin
		return &onlooker{end: func() {}}
	}
	ctx, cancel := context.WithCancel(ctx)
	on := &onlooker{told: make(chan string)}
	var all sync.WaitGroup
	all.Go(func() { s.look(ctx, id, st.Counts.Answered(), on.told) })
	on.end = func() {
		cancel()
		all.Wait()
	}
	return on
}

// add says in a status what the job waits for, unless that says so already.
func (on *onlooker) add(st *navvy.Status) {
	if st.Waiting == "" && !st.Held && !st.State().Final() {
		st.Waiting = on.words
	}
}

// look asks what the oldest attempt of a job waits for, as long as no answers come.
func (s *jobs) look(ctx context.Context, id navvy.JobID, answered int64, tell chan<- string) {
	said, at := "", time.Time{}
	for pause := s.opts.LookOn; ; pause = min(2*pause, longestLook) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		st, err := s.mgr.Status(ctx, id)
		if err != nil {
			return // who waits finds out
		}
		n := st.Counts.Answered()
		index, why, ok := int64(0), "", n != answered
		if answered = n; !ok {
			index, why, ok = s.mgr.ExplainJob(ctx, id)
		}
		if !ok || why == said || why != "" && said != "" && time.Since(at) < tellAgain {
			continue
		}
		said, at = why, time.Now()
		if why != "" && st.Counts.Total() > 1 {
			why = fmt.Sprintf("task %d: %s", index, why)
		}
		select {
		case <-ctx.Done():
			return
		case tell <- why:
		}
	}
}
