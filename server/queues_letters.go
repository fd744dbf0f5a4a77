package server

import (
	"context"

	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/server/auth"
)

// queueLetters is how many letters of each side of a queue List counts. More of them would
// have to be read at each call.
const queueLetters = 1000

// tell sorts lines by queue, as far as the caller is told of them: of a queue with settings
// all, else one's own. A queue that is not in byName is added.
func (s *queues) tell(ctx context.Context, lines []engine.Line, after string, byName map[string]*navvyv1.Queue) map[string][]engine.Line {
	me, told := auth.From(ctx), map[string][]engine.Line{}
	for _, l := range lines {
		q := byName[l.Queue]
		if l.Queue <= after || (q == nil || q.Settings == nil) && !me.SeesAll() && l.Owner != me.Name {
			continue
		}
		if q == nil {
			byName[l.Queue] = s.queueMessage(l.Queue, nil)
		}
		told[l.Queue] = append(told[l.Queue], l)
	}
	return told
}

// countLetters fills in how many letters wait on the lines of a queue.
func (s *queues) countLetters(ctx context.Context, q *navvyv1.Queue, lines []engine.Line) error {
	for _, side := range []struct {
		side engine.Side
		to   *int64
	}{{engine.Responses, &q.Answers}, {engine.DeadLetters, &q.DeadLetters}} {
		for _, l := range lines {
			n, err := s.eng.CountLetters(ctx, l, side.side, queueLetters+1-int(*side.to))
			if err != nil {
				return err
			}
			if *side.to += int64(n); *side.to > queueLetters {
				*side.to, q.MoreLetters = queueLetters, true
				break
			}
		}
	}
	return nil
}
