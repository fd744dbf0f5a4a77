package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/output"
)

const inlineLimit = output.InlineLimit

// work lets one worker go on with one of its runs.
func (s *sim) work() {
	h := oneOf(s.rng, s.hands)
	if h == nil || h.frozen || len(h.runs) == 0 {
		return
	}
	r := oneOf(s.rng, h.runs)
	switch {
	case r.told && s.chance(70):
		s.report(r, navvy.OutcomeInterrupted)
	case r.frames < len(r.out.ends):
		r.frames++
		s.upload(r)
	default:
		s.report(r, r.plan)
	}
}

// upload sends what the run has written and navvy has not got, if it wants it.
func (s *sim) upload(r *run) {
	frames := r.out.upTo(r.frames)
	if !r.streams || r.hand.session == nil || r.sent == len(frames) {
		return
	}
	if r.writer == nil {
		w, err := s.mgr.WriteOutput(r.hand.name, r.ref())
		if s.call("write output", err, navvy.ErrLeaseLost) != done {
			s.mayRefuse(r, "its output")
			return
		}
		if !s.now().Before(r.may) {
			s.violate(ruleLease, "the output of %s is taken after its lease ended at %s", r, r.may)
		}
		r.writer = w
	}
	// A disk that fails for good has never space again; and one that is full has it sooner.
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	for r.sent < len(frames) {
		// A worker sends whole frames, one or more at a time.
		end := r.out.ends[slices.IndexFunc(r.out.ends, func(end int) bool { return end > r.sent })]
		if s.chance(50) {
			end = len(frames)
		}
		length, err := r.writer.Append(ctx, frames[r.sent:end])
		if errors.Is(err, navvy.ErrExhausted) && s.filled {
			return // it was to stop, and did not wait for space; if it goes on it tries again
		}
		if s.call("append", err, navvy.ErrClosed) != done {
			s.mayRefuse(r, "its output")
			return
		}
		if r.sent = end; length != int64(end) {
			s.violate(ruleOutput, "%s has sent %d bytes, %d are known", r, end, length)
		}
	}
}

// mayRefuse sees whether there is a reason not to honour a run.
func (s *sim) mayRefuse(r *run, what string) {
	if !s.broken && s.holds(r) && r.job.sure.exists {
		s.violate(ruleCalls, "%s holds a lease, and %s is refused", r, what)
	}
	r.writer = nil
}

// report ends a run and says how. Its slot is free from now on.
func (s *sim) report(r *run, o navvy.Outcome) {
	if r.hand.session == nil {
		return
	}
	frames := r.out.upTo(r.frames)
	logged := r.streams
	if logged {
		s.upload(r)
		if s.broken {
			return
		}
	}
	rep := reported{outcome: o, said: frames, logged: logged, wrong: logged && r.sent < len(frames)}
	if logged && s.chance(3) { // bits fall over
		rep.wrong = true
	}
	r.over = true
	h := r.hand
	h.runs = slices.DeleteFunc(h.runs, func(o *run) bool { return o == r })
	h.late = append(h.late, r)
	s.note("%s reports %s, %d bytes, logged %t", r, o, len(frames), logged)
	s.deliver(r, rep)
}

// deliver hands a report to navvy.
func (s *sim) deliver(r *run, rep reported) {
	h := r.hand
	mine := r.boot == s.boots && r.session == h.session && !r.lost && len(r.reports) == 0
	rep.session, rep.acked = h.session, false
	rep.must = mine && s.now().Before(r.must)
	rep.may = mine && s.now().Before(r.may)
	r.reports = append(r.reports, rep)
	a := navvy.Attempt{
		ID: r.id, Outcome: rep.outcome, Started: s.now().Add(-time.Second), Finished: s.now(), Output: claim(rep.said, rep.logged),
	}
	if rep.wrong {
		a.Output.CRC++
	}
	if rep.outcome != navvy.OutcomeSucceeded {
		a.Reason, a.Exit.Code = navvy.ReasonExit, 1
	}
	err := h.session.Done(s.ctx, []manager.Finished{{Task: r.ref().Task, Attempt: a}})
	s.read("report", err)
}

// again lets a worker report once more what it has reported before.
func (s *sim) again() {
	h := oneOf(s.rng, s.hands)
	if h == nil || h.frozen || h.session == nil || len(h.late) == 0 {
		return
	}
	r := oneOf(s.rng, h.late)
	rep := r.reports[0]
	rep.wrong = false
	s.note("%s is reported again", r)
	s.deliver(r, rep)
}

// heartbeat renews the leases of all that a worker runs.
func (s *sim) heartbeat() {
	h := oneOf(s.rng, s.hands)
	if h == nil || h.frozen || h.session == nil {
		return
	}
	s.beat(h)
}

func (s *sim) beat(h *hand) {
	refs := make([]manager.Ref, len(h.runs))
	var unknown []*run
	for i, r := range h.runs {
		refs[i] = r.ref()
		mine := r.boot == s.boots && r.session == h.session
		switch {
		case mine && s.now().Before(r.must):
			r.must, r.may = s.since.Add(lease), s.now().Add(lease)
		case mine && s.now().Before(r.may):
			r.may = s.now().Add(lease) // nobody knows
		default:
			unknown = append(unknown, r)
		}
	}
	s.note("%s is alive with %v", h.name, h.runs)
	h.session.Alive(refs)
	s.drain()
	for _, r := range unknown {
		if !r.told && !s.broken && s.bad == nil {
			s.violate(ruleLease, "%s has lost its lease, and nobody ends it", r)
		}
	}
}

// settle brings reports to disk.
func (s *sim) settle() { s.read("settle", s.mgr.Settle(s.ctx)) }

// tick does what is due.
func (s *sim) tick() {
	s.note("tick at %s", s.now().Format(clockFormat))
	next, err := s.mgr.Tick(s.ctx)
	if !s.read("tick", err) {
		return
	}
	if !next.After(s.now()) {
		s.violate(ruleCalls, "after a tick something is due at once: it would never rest")
	}
	s.drain()
	for _, h := range s.hands {
		for _, r := range h.runs {
			if r.session == h.session && !s.now().Before(r.may) && !r.told && !s.broken && s.bad == nil {
				s.violate(ruleLease, "the lease of %s has ended, and nobody ends it", r)
			}
		}
	}
}

// pause lets time pass.
func (s *sim) pause(longest time.Duration) {
	d := time.Duration(s.rng.Int64N(int64(longest)))
	s.note("%s pass", d)
	time.Sleep(d) //nolint:forbidigo // in a bubble
}

func (s *sim) freeze() {
	if h := oneOf(s.rng, s.hands); h != nil {
		h.frozen = !h.frozen
		s.note("%s is frozen: %t", h.name, h.frozen)
	}
}
