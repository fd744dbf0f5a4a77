package server

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
)

func noSide(side navvyv1.MessageSide) error {
	return fmt.Errorf("side %d of a queue: want requests, responses or dead letters: %w", side, navvy.ErrInvalid)
}

// Peek implements the call of that name.
func (s *messages) Peek(ctx context.Context, req *navvyv1.PeekRequest) (*navvyv1.PeekResponse, error) {
	resp, err := s.peek(ctx, req)
	return resp, s.fail(err)
}

func (s *messages) peek(ctx context.Context, req *navvyv1.PeekRequest) (*navvyv1.PeekResponse, error) {
	line, err := s.line(ctx, req.GetQueue())
	if err != nil {
		return nil, err
	}
	var behind []byte
	if page := req.GetPage(); page != "" {
		if behind, err = hex.DecodeString(page); err != nil {
			return nil, fmt.Errorf("peek: page %.80q is none that was given out: %w", page, navvy.ErrInvalid)
		}
	}
	p := &peeking{letterReader: letterReader{Server: s.Server}, line: line, limit: pageLimit(req.GetLimit())}
	switch req.GetSide() {
	case navvyv1.MessageSide_MESSAGE_SIDE_REQUESTS:
		err = p.requests(ctx, behind)
	case navvyv1.MessageSide_MESSAGE_SIDE_RESPONSES:
		err = p.letters(ctx, engine.Responses, behind)
	case navvyv1.MessageSide_MESSAGE_SIDE_DEAD_LETTERS:
		err = p.letters(ctx, engine.DeadLetters, behind)
	case navvyv1.MessageSide_MESSAGE_SIDE_UNSPECIFIED:
		err = noSide(req.GetSide())
	default:
		err = noSide(req.GetSide())
	}
	return &navvyv1.PeekResponse{Messages: p.list, NextPage: hex.EncodeToString(p.next)}, err
}

// peeking is one page of what waits.
type peeking struct {
	letterReader
	line  engine.Line
	limit int

	list  []*navvyv1.Message
	bytes int
	next  []byte // the page behind this one; nil if there is none
}

func (p *peeking) full() bool { return len(p.list) >= p.limit || p.bytes >= maxReceivedBytes }

func (p *peeking) add(m *navvyv1.Message) {
	p.list = append(p.list, m)
	p.bytes += len(m.GetBody())
}

// letters adds those of one side.
func (p *peeking) letters(ctx context.Context, side engine.Side, behind []byte) error {
	list, err := p.eng.Letters(ctx, p.line, side, behind, p.limit+1)
	if err != nil {
		return err
	}
	build := p.response
	if side == engine.DeadLetters {
		build = p.deadLetter
	}
	for i := range list {
		if p.full() {
			p.next = list[i-1].Place()
			return nil
		}
		m, err := build(ctx, p.line, &list[i])
		if errors.Is(err, navvy.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		p.add(m)
	}
	if len(list) > p.limit { // some of which were gone
		p.next = list[len(list)-1].Place()
	}
	return nil
}

// requests adds messages that have no answer, of jobs in their order of service. A page
// begins behind a task of a job: its position, and its index.
func (p *peeking) requests(ctx context.Context, behind []byte) error {
	var after []byte
	first := int64(0)
	if behind != nil {
		if len(behind) < 8 {
			return fmt.Errorf("peek: the page is none that was given out: %w", navvy.ErrInvalid)
		}
		// The job itself is looked at again, behind the task.
		after = before(behind[:len(behind)-8])
		first = int64(binary.BigEndian.Uint64(behind[len(behind)-8:])) + 1
	}
	return eachMessageJob(ctx, p.Server, p.line, after, func(job *navvy.Job, state *engine.State) error {
		at := engine.Position(job)
		from := int64(0)
		if behind != nil && string(at) == string(behind[:len(behind)-8]) {
			from = first
		}
		if err := p.requestsOf(ctx, job, state, from); err != nil {
			return err
		}
		if p.next != nil {
			return engine.ErrStop
		}
		return nil
	})
}

// before is a position before the one given and behind all that are before it.
func before(position []byte) []byte {
	b := append([]byte{}, position...)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]--; b[i] != 0xff {
			break
		}
	}
	return b
}

func (p *peeking) requestsOf(ctx context.Context, job *navvy.Job, state *engine.State, from int64) error {
	answered := roaring.New()
	if err := p.eng.Answered(ctx, job.ID, func(i int64) error { answered.Add(uint32(i)); return nil }); err != nil {
		return err
	}
	attempts := map[int64]uint32{}
	err := p.eng.Attempts(ctx, job.ID, -1, func(task navvy.TaskID, _ *navvy.Attempt) error {
		attempts[task.Index]++
		return nil
	})
	if err != nil && !errors.Is(err, navvy.ErrCorrupt) {
		return err
	}
	last := from - 1
	for i := from; i < state.Total; i++ {
		if answered.Contains(uint32(i)) {
			continue
		}
		if p.full() {
			p.next = binary.BigEndian.AppendUint64(engine.Position(job), uint64(last))
			return nil
		}
		l := engine.Letter{Task: navvy.TaskID{Job: job.ID, Index: i}, Sent: job.Accepted}
		m, body, err := p.message(ctx, &l)
		switch {
		case errors.Is(err, navvy.ErrNotFound):
			return nil // removed in between
		case err != nil && !damage(m, err):
			return err
		}
		m.Body, m.Attempts, last = body, attempts[i], i
		p.add(m)
	}
	return nil
}

// eachMessageJob calls fn for the jobs of messages that stand in a line, from behind a
// position on, until it returns an error; engine.ErrStop ends it without one.
func eachMessageJob(ctx context.Context, s *Server, line engine.Line, after []byte, fn func(*navvy.Job, *engine.State) error) error {
	const page = 100
	for {
		ids, next, err := s.eng.QueuedAfter(ctx, line, after, page)
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, id := range ids {
			job, state, err := s.eng.Job(ctx, id)
			if errors.Is(err, navvy.ErrNotFound) || errors.Is(err, navvy.ErrCorrupt) || err == nil && !job.Responses {
				continue
			}
			if err == nil {
				err = fn(job, &state)
			}
			if errors.Is(err, engine.ErrStop) {
				return nil
			} else if err != nil {
				return err
			}
		}
		after = next
	}
}

// Purge implements the call of that name.
func (s *messages) Purge(ctx context.Context, req *navvyv1.PurgeRequest) (*navvyv1.PurgeResponse, error) {
	line, err := s.line(ctx, req.GetQueue())
	n := int64(0)
	if err == nil {
		switch req.GetSide() {
		case navvyv1.MessageSide_MESSAGE_SIDE_REQUESTS:
			n, err = s.purgeRequests(ctx, line)
		case navvyv1.MessageSide_MESSAGE_SIDE_RESPONSES:
			n, err = s.purgeLetters(ctx, line, engine.Responses)
		case navvyv1.MessageSide_MESSAGE_SIDE_DEAD_LETTERS:
			n, err = s.purgeLetters(ctx, line, engine.DeadLetters)
		case navvyv1.MessageSide_MESSAGE_SIDE_UNSPECIFIED:
			err = noSide(req.GetSide())
		default:
			err = noSide(req.GetSide())
		}
	}
	if err != nil {
		return nil, s.fail(err)
	}
	return &navvyv1.PurgeResponse{Messages: n}, nil
}

// purgeRequests ends the jobs of messages that stand in a line.
func (s *messages) purgeRequests(ctx context.Context, line engine.Line) (n int64, err error) {
	err = eachMessageJob(ctx, s.Server, line, nil, func(job *navvy.Job, _ *engine.State) error {
		messages, err := s.mgr.Discard(ctx, job.ID, "its messages were purged")
		n += messages
		if errors.Is(err, navvy.ErrNotFound) {
			return nil
		}
		return err
	})
	return n, err
}

// purgeLetters acknowledges all that waits on one side of a line.
func (s *messages) purgeLetters(ctx context.Context, line engine.Line, side engine.Side) (n int64, err error) {
	var behind []byte
	for {
		list, err := s.eng.Letters(ctx, line, side, behind, maxReceived)
		if err != nil || len(list) == 0 {
			return n, err
		}
		refs := make([]engine.LetterRef, len(list))
		for i := range list {
			refs[i] = engine.LetterRef{Task: list[i].Task, Round: list[i].Round}
		}
		gone, expires, err := s.eng.Acknowledge(ctx, line, side, refs)
		n += int64(gone)
		if expires {
			s.mgr.ExpireSoon()
		}
		if err != nil {
			return n, err
		}
		behind = list[len(list)-1].Place()
	}
}
