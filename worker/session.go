package worker

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy/client"
)

// link is a session as long as it lasts.
type link struct {
	ctx   context.Context //nolint:containedctx // it is the session's life, which uploads share
	share string          // see client.Welcome
}

// errDrained ends the last session.
var errDrained = errors.New("the worker is drained")

// serve has one session, until it breaks.
func (w *Worker) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	awaited := w.awaited() // what comes from now on is told, or told twice
	session, err := w.server.Work(ctx, w.info())
	if err != nil {
		return err
	}
	w.log.Info("connected to the server", "worker", session.Name)
	w.setLink(&link{ctx, session.Share})
	defer w.unlink()
	p := newPulse(session.Lease)
	if w.opts.Dir == "" {
		p = newPulse(0) // it has no second session
	}
	g.Go(func() error { return w.obey(ctx, session, p, g) })
	for _, come := range awaited {
		g.Go(func() error { w.learn(ctx, come); return nil })
	}
	for _, r := range w.runners {
		g.Go(func() error { w.sweeps(ctx, r); return nil })
	}
	g.Go(func() error {
		defer cancel() // which ends obey, too
		return w.speak(ctx, session, p)
	})
	return g.Wait()
}

// setLink begins a session: uploads go on, and what is not settled is reported anew.
func (w *Worker) setLink(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.link, w.share, w.doubted = l, l.share, false
	close(w.changed)
	w.changed = make(chan struct{})
	if w.opts.Dir == "" {
		return
	}
	w.freed = w.opts.Slots - len(w.runs)
	w.reports = w.reports[:0]
	for _, f := range w.unsettled {
		if f.reported = f.spool == nil; f.reported {
			w.reports = append(w.reports, f.Report)
		}
	}
	w.wakeLocked()
}

// unlink ends a session. What the server has not settled is made durable.
func (w *Worker) unlink() {
	w.mu.Lock()
	w.link = nil
	close(w.changed)
	w.changed = make(chan struct{})
	var list []*finished
	for _, f := range w.unsettled {
		list = append(list, f)
	}
	w.mu.Unlock()
	w.keep(list...)
}

// awaitLink waits until there is a session.
func (w *Worker) awaitLink(ctx context.Context) (*link, error) {
	for {
		w.mu.Lock()
		l, changed := w.link, w.changed
		w.mu.Unlock()
		if l != nil && l.ctx.Err() == nil {
			return l, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-changed:
		}
	}
}

// obey does what the server says. What takes time it does in g.
func (w *Worker) obey(ctx context.Context, session *client.Session, p *pulse, g *errgroup.Group) error {
	for {
		orders, err := session.Next()
		if err != nil {
			return err
		}
		if err := p.check(); err != nil {
			return err
		}
		w.start(ctx, orders.Assignments)
		for _, r := range orders.Watch {
			if a := w.attempt(r); a != nil {
				a.run.Watch()
			}
		}
		for _, s := range orders.Stops {
			if a := w.attempt(s.AttemptRef); a != nil {
				a.stop(s.Force)
			}
		}
		w.settle(orders.Settled)
		if len(orders.Explain) > 0 {
			g.Go(func() error { w.explain(ctx, orders.Explain); return nil })
		}
		if orders.Drain {
			w.drainForServer()
		}
	}
}

func (w *Worker) attempt(r client.AttemptRef) *attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs[r]
}

// settle forgets what the server has settled.
func (w *Worker) settle(list []client.Settled) {
	if len(list) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tellSettledLocked(list)
	for _, s := range list {
		if s.Refused != "" {
			w.log.Info("a result was refused", "task", s.Task, "attempt", s.Attempt, "why", s.Refused)
		}
		if f := w.unsettled[s.AttemptRef]; f != nil {
			delete(w.unsettled, s.AttemptRef)
			if f.settled != nil {
				close(f.settled)
			}
		}
	}
	if len(w.unsettled) == 0 {
		w.journal.clear()
	}
	w.checkDrainedLocked()
}

// tellSettledLocked tells the runners that keep what has ended.
func (w *Worker) tellSettledLocked(list []client.Settled) {
	if len(w.outliving) == 0 {
		return
	}
	for _, s := range list {
		if !w.outliving[s.AttemptRef] {
			continue
		}
		delete(w.outliving, s.AttemptRef)
		for _, r := range w.runners {
			r.Settled(token(s.AttemptRef))
		}
	}
}

// speak tells the server what has finished, what finishes meanwhile together, and
// that the worker is there.
func (w *Worker) speak(ctx context.Context, session *client.Session, p *pulse) error {
	var beat <-chan time.Time
	if session.Heartbeat > 0 {
		ticker := time.NewTicker(session.Heartbeat)
		defer ticker.Stop()
		beat = ticker.C
	}
	saidAt := time.Now()
	alive := func() error {
		if err := p.beat(); err != nil {
			return err
		}
		held, now := w.holds(), time.Now()
		if len(held) == 0 && now.Sub(saidAt) < session.Idle-session.Heartbeat/2 {
			return nil // what has nothing to lose is asked less often
		}
		saidAt = now
		return session.Alive(held)
	}
	var said spoken
	for {
		select {
		case <-beat: // also when there is always something to report
			if err := alive(); err != nil {
				return err
			}
		default:
		}
		if more, err := w.say(session, &said); err != nil {
			return err
		} else if more {
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.drained:
			return errDrained
		case <-w.ready:
		case <-beat:
			if err := alive(); err != nil {
				return err
			}
		}
	}
}

// spoken is what a session has said.
type spoken struct {
	reports []client.Report // memory for the next ones
	left    bool            // that the worker leaves
}

// say sends what there is to say, and tells whether there was anything to report.
func (w *Worker) say(session *client.Session, said *spoken) (more bool, err error) {
	clear(said.reports)
	w.mu.Lock()
	said.reports, w.reports = w.reports, said.reports[:0]
	freed, draining, explained, learned := w.freed, w.draining, w.explained, w.learned
	w.freed, w.explained, w.learned = 0, nil, false
	w.mu.Unlock()
	if learned {
		if err := session.Offer(w.kinds()); err != nil {
			return false, err
		}
	}
	if explained != nil {
		if err := session.Explain(explained); err != nil {
			return false, err
		}
	}
	if draining && !said.left {
		said.left = true
		if err := session.Leave(); err != nil {
			return false, err
		}
	}
	if len(said.reports) == 0 && freed == 0 {
		return false, nil
	}
	return true, session.Report(said.reports, freed)
}

// holds are the attempts that the worker has and has not reported.
func (w *Worker) holds() []client.AttemptRef {
	w.mu.Lock()
	defer w.mu.Unlock()
	refs := make([]client.AttemptRef, 0, len(w.runs)+len(w.unsettled))
	for ref := range w.runs {
		refs = append(refs, ref)
	}
	for ref, f := range w.unsettled {
		if !f.reported {
			refs = append(refs, ref)
		}
	}
	return refs
}

// explain finds out what attempts wait for, which speak tells then.
func (w *Worker) explain(ctx context.Context, refs []client.AttemptRef) {
	for _, ref := range refs {
		why := ""
		if a := w.attempt(ref); a != nil {
			why = w.runners[a.spec.Kind()].Why(ctx, token(ref))
		}
		w.mu.Lock()
		if w.explained == nil {
			w.explained = map[client.AttemptRef]string{}
		}
		w.explained[ref] = why
		w.wakeLocked()
		w.mu.Unlock()
	}
}
