package engine

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// leftovers are the containers of earlier navvys of this instance, as they were when the engine
// was asked last. Nobody makes more of them: what has the directory is one at a time.
type leftovers struct {
	mu    sync.Mutex
	byID  map[string]driver.Adrift
	going map[string]chan struct{} // those that are being seen off, by id
}

// know notes what an engine has.
func (l *leftovers) know(list []state) {
	byID := make(map[string]driver.Adrift, len(list))
	for i := range list {
		labels := list[i].labels
		index, err := strconv.ParseInt(labels[labelTask], 10, 64)
		if token := labels[labelAttempt]; err == nil && token != "" && list[i].phase != phaseGoing {
			byID[list[i].id] = driver.Adrift{Task: navvy.TaskID{Job: navvy.JobID(labels[labelJob]), Index: index}, Token: token}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byID = byID
}

// forget forgets a container, which is gone.
func (l *leftovers) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byID, id)
}

// all lists those that no attempt of this process has.
func (l *leftovers) all(held *holdings) (list []driver.Adrift) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, a := range l.byID {
		if !held.held(id) {
			list = append(list, a)
		}
	}
	return list
}

// of is the id of the container that the attempt with a token made; empty if there is none.
func (l *leftovers) of(token string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, a := range l.byID {
		if a.Token == token {
			return id
		}
	}
	return ""
}

// seeOff notes that a container is seen off from now on, and gives what is closed when it has been;
// first is false if somebody does already.
func (l *leftovers) seeOff(id string) (done chan struct{}, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if done := l.going[id]; done != nil {
		return done, false
	}
	if l.going == nil {
		l.going = map[string]chan struct{}{}
	}
	done = make(chan struct{})
	l.going[id] = done
	return done, true
}

func (l *leftovers) seenOff(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.going[id])
	delete(l.going, id)
}

// Adrift implements driver.Sweeper: the containers of this instance, whether they run or have
// ended, that no attempt of this process has. The engine is asked when the driver is opened, if
// that looks after them, and every hour.
func (d *Driver) Adrift() []driver.Adrift { return d.left.all(&d.held) }

// Sweep implements driver.Sweeper.
func (d *Driver) Sweep(ctx context.Context, token string) error {
	id := d.left.of(token)
	if id == "" || d.held.held(id) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := d.backend.inspect(ctx, id)
	switch {
	case errors.Is(err, errGone):
		d.left.forget(id)
		return nil
	case err != nil:
		return err
	case s.phase == phaseRunning:
		d.log.Info("a container whose task nobody wants answered any more is ended", "container", id)
		if err := d.dismiss(ctx, s); err != nil {
			return err // it is looked at again
		}
		d.left.forget(id)
		return nil
	}
	return d.discard(ctx, id)
}

// dismiss asks a container that nobody waits for to end, and sees to it that it does, and goes.
func (d *Driver) dismiss(ctx context.Context, s *state) error {
	if err := d.marks.set(s.id); err != nil {
		d.log.Warn("that a container is asked to end is not noted", "container", s.id, "err", err)
	}
	if err := d.backend.ask(ctx, s.id); err != nil && !errors.Is(err, errGone) {
		return err
	}
	d.dismissed(s.id, s.grace(), &d.ends)
	return nil
}

// dismissed sees to it that a container that was asked to end does so, within its grace or by
// force, and goes, unless an attempt of this process has it by then. It does so as one of all.
func (d *Driver) dismissed(id string, grace time.Duration, all *sync.WaitGroup) {
	if d.ctx.Err() != nil {
		return // the next navvy does
	}
	d.watch.begin()
	done, first := d.left.seeOff(id)
	all.Go(func() {
		if !first {
			<-done
			return
		}
		defer d.left.seenOff(id)
		d.seeOff(d.ctx, id, grace)
	})
}

func (d *Driver) seeOff(ctx context.Context, id string, grace time.Duration) {
	changed, stop := d.watch.follow(id)
	defer stop()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	again, over := pauses(), false
	for !d.held.held(id) {
		gone, err := d.seen(ctx, id, over)
		if gone || ctx.Err() != nil {
			return
		}
		var retry <-chan time.Time
		if err != nil {
			d.log.Warn("a container that nobody wants stays; it is tried again", "container", id, "err", err)
			retry = time.After(again.Next())
		}
		select {
		case <-changed:
		case <-retry:
		case <-timer.C:
			over = true
		case <-ctx.Done():
		}
	}
}

// seen looks at a container that was asked to end: one that has is removed, one whose grace is
// over is ended.
func (d *Driver) seen(ctx context.Context, id string, over bool) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := d.backend.inspect(ctx, id)
	switch {
	case err == nil && s.phase == phaseEnded:
		err = d.discard(ctx, id)
		return err == nil, err
	case err == nil && s.phase == phaseRunning && over:
		err = d.backend.kill(ctx, id)
	}
	if errors.Is(err, errGone) {
		d.left.forget(id)
		return true, nil
	}
	return false, err
}

// lastEnds is how long Close waits for containers that nobody wants to end: usually long enough
// for their grace. The next navvy goes on with those that stay.
const lastEnds = navvy.DefaultGrace + 5*time.Second

// finishEnds waits until they are gone.
func (d *Driver) finishEnds() { d.await(&d.ends, lastEnds) }

// await waits for a group, but not for longer than so.
func (d *Driver) await(all *sync.WaitGroup, most time.Duration) {
	done := make(chan struct{})
	d.running.Go(func() {
		defer close(done)
		all.Wait()
	})
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
