package manager

import (
	"context"
	"errors"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// Submission is engine.Submission, with the manager told of what becomes visible.
// It ends with Seal, Abort or CutOff.
type Submission struct {
	*engine.Submission
	m    *Manager
	over bool
}

// Submit begins a submission; see engine.Submit. A manager that is about to
// leave refuses with ErrUnavailable, one that could never run the job with ErrUnsupported.
func (m *Manager) Submit(ctx context.Context, job navvy.Job, stream bool) (*Submission, navvy.JobID, error) {
	return m.submit(ctx, job, stream, m.eng.Submit)
}

// beginning is a way in which the engine begins a submission.
type beginning func(ctx context.Context, job navvy.Job, stream bool) (*engine.Submission, navvy.JobID, error)

func (m *Manager) submit(ctx context.Context, job navvy.Job, stream bool, begin beginning) (*Submission, navvy.JobID, error) {
	m.mu.Lock()
	leaving := m.leaving
	if !leaving {
		m.submitting++
	}
	m.mu.Unlock()
	if leaving {
		return nil, "", errDraining
	}
	s := &Submission{m: m}
	var id navvy.JobID
	var err error
	if s.Submission, id, err = begin(ctx, job, stream); err != nil {
		s.end()
		return nil, id, err
	}
	if err := m.refuse(s.Job()); err != nil {
		s.end()
		return nil, "", errors.Join(err, s.Submission.Abort(ctx, err.Error()))
	}
	m.mu.Lock()
	m.coming[id] = engine.State{}
	m.mu.Unlock()
	return s, id, nil
}

// end says that no more inputs come.
func (s *Submission) end() {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.endLocked()
}

func (s *Submission) endLocked() {
	if !s.over {
		s.over = true
		s.m.submitting--
		if s.Submission != nil {
			delete(s.m.coming, s.Job().ID)
		}
		s.m.idle.fire()
	}
}

// Flush makes the inputs so far durable; in a stream they may start.
func (s *Submission) Flush(ctx context.Context, visible bool) error {
	fresh := !s.Visible()
	if err := s.Submission.Flush(ctx); err != nil || !visible {
		return err
	}
	return s.served(ctx, fresh)
}

// Seal makes the job durable; it may start.
func (s *Submission) Seal(ctx context.Context) error {
	fresh, begun := !s.Visible(), time.Now()
	if err := s.Submission.Seal(ctx); err != nil {
		return err
	}
	s.m.meters.Submit.Observe(time.Since(begun))
	err := s.served(ctx, fresh)
	s.end()
	return err
}

func (s *Submission) served(ctx context.Context, fresh bool) error {
	if s.m.accepted(s.Job(), s.State(), s.First(), fresh) {
		if err := s.m.load(ctx, s.Job().ID); err != nil {
			return err
		}
	}
	return s.m.pump(ctx)
}

// Abort gives the submission up; see engine.Submission.
func (s *Submission) Abort(ctx context.Context, why string) error {
	defer s.end()
	if err := s.Submission.Abort(ctx, why); err != nil {
		return err
	}
	return s.settled(ctx, (*job).stopAll)
}

// CutOff settles a submission whose client vanished; see engine.CutOff.
func (s *Submission) CutOff(ctx context.Context) error {
	defer s.end()
	if err := s.m.eng.CutOff(ctx, s.Job().ID); err != nil {
		return err
	}
	return s.settled(ctx, nil)
}

func (s *Submission) settled(ctx context.Context, also func(*job)) error {
	state, err := s.m.eng.State(ctx, s.Job().ID)
	if errors.Is(err, navvy.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	s.m.took(s.Job().ID, state, also)
	return nil
}
