package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
)

// Redrive implements the call of that name.
func (s *messages) Redrive(ctx context.Context, req *navvyv1.RedriveRequest) (*navvyv1.RedriveResponse, error) {
	line, err := s.line(ctx, req.GetQueue())
	resp := &navvyv1.RedriveResponse{}
	if err == nil && len(req.GetIds()) > 0 {
		err = s.redriveNamed(ctx, line, req.GetIds(), resp)
	} else if err == nil {
		err = s.redriveAll(ctx, line, resp)
	}
	if err != nil {
		return nil, s.fail(err)
	}
	return resp, nil
}

// redriveAll sends all dead letters of a line again, that there are now.
func (s *messages) redriveAll(ctx context.Context, line engine.Line, resp *navvyv1.RedriveResponse) error {
	var behind []byte
	for {
		list, err := s.eng.Letters(ctx, line, engine.DeadLetters, behind, engine.MaxMessages)
		if err != nil || len(list) == 0 {
			return err
		}
		behind = list[len(list)-1].Place()
		for len(list) > 0 {
			n := 1 // those of a job stand together
			for n < len(list) && list[n].Task.Job == list[0].Task.Job {
				n++
			}
			err := s.redrive(ctx, line, list[:n], resp)
			if err != nil && !errors.Is(err, navvy.ErrNotFound) { // removed in between
				return err
			}
			list = list[n:]
		}
	}
}

// redriveNamed sends dead letters again, all of which must be there.
func (s *messages) redriveNamed(ctx context.Context, line engine.Line, ids []string, resp *navvyv1.RedriveResponse) error {
	if len(ids) > engine.MaxMessages {
		return fmt.Errorf("redrive: %d messages, more than %d at once: %w", len(ids), engine.MaxMessages, navvy.ErrInvalid)
	}
	byJob := map[navvy.JobID][]engine.Letter{}
	var order []navvy.JobID
	seen := map[string]bool{}
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		l, err := s.deadLetterOf(ctx, line, id)
		if err != nil {
			return err
		}
		if byJob[l.Task.Job] == nil {
			order = append(order, l.Task.Job)
		}
		byJob[l.Task.Job] = append(byJob[l.Task.Job], l)
	}
	for _, job := range order {
		if err := s.redrive(ctx, line, byJob[job], resp); err != nil {
			return err
		}
	}
	return nil
}

// deadLetterOf finds one by its id.
func (s *messages) deadLetterOf(ctx context.Context, line engine.Line, id string) (engine.Letter, error) {
	none := fmt.Errorf("dead letter %.80s of queue %s: %w", id, line.Queue, navvy.ErrNotFound)
	task, err := navvy.ParseTaskID(id)
	if err != nil {
		return engine.Letter{}, err
	}
	job, _, err := s.eng.Job(ctx, task.Job)
	switch {
	case errors.Is(err, navvy.ErrNotFound), err == nil && (!job.Responses || engine.LineOf(job) != line):
		return engine.Letter{}, none
	case err != nil:
		return engine.Letter{}, err
	}
	res, err := s.eng.Result(ctx, task)
	if errors.Is(err, navvy.ErrNotFound) {
		return engine.Letter{}, none
	} else if err != nil {
		return engine.Letter{}, err
	}
	l := engine.Letter{Task: task, Sent: job.Accepted, Round: res.Round}
	if has, err := s.eng.HasLetter(ctx, line, engine.DeadLetters, &l); err != nil || !has {
		return engine.Letter{}, errors.Join(err, none)
	}
	return l, nil
}

// redrive sends dead letters of one job again.
func (s *messages) redrive(ctx context.Context, line engine.Line, list []engine.Letter, resp *navvyv1.RedriveResponse) error {
	job, state, err := s.eng.Job(ctx, list[0].Task.Job)
	if err != nil {
		return err
	}
	if state.Stopped { // a retry would revive what was stopped
		return s.sendAgain(ctx, line, job, list, resp)
	}
	sel := engine.RetrySelection{Failed: true}
	for _, l := range list {
		sel.Indexes = append(sel.Indexes, l.Task.Index)
	}
	n, _, err := s.mgr.Retry(ctx, job.ID, sel)
	resp.Messages += n
	return err
}

// sendAgain makes a new job of dead letters of a job that was stopped, and takes them
// off then. A crash in between leaves both; the same redrive finds the new job again.
func (s *messages) sendAgain(ctx context.Context, line engine.Line, old *navvy.Job, list []engine.Letter, resp *navvyv1.RedriveResponse) error {
	inputs := make([][]byte, 0, len(list))
	refs := make([]engine.LetterRef, 0, len(list))
	name := sha256.New()
	reader := letterReader{Server: s.Server}
	for i := range list {
		l := &list[i]
		if _, _, err := reader.message(ctx, l); err != nil {
			return err
		}
		input, _ := reader.chunk.Get(l.Task.Index)
		inputs, refs = append(inputs, input), append(refs, engine.LetterRef{Task: l.Task, Round: l.Round})
		name.Write(fmt.Appendf(nil, "%s %d\n", l.Task, l.Round)) // never fails, see hash.Hash
	}
	again := *old
	again.IdempotencyKey = "navvy redrive " + hex.EncodeToString(name.Sum(nil))
	id, _, err := s.accept(ctx, again, inputs)
	if err != nil {
		return err
	}
	for i := range inputs {
		resp.Ids = append(resp.Ids, navvy.TaskID{Job: id, Index: int64(i)}.String())
	}
	_, expires, err := s.eng.Acknowledge(ctx, line, engine.DeadLetters, refs)
	if expires {
		s.mgr.ExpireSoon()
	}
	resp.Messages += int64(len(inputs))
	return err
}
