package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// MaxMessages bounds the tasks of a job whose tasks are messages: all its letters can be
// taken away in one batch.
const MaxMessages = 10_000

// posted is a letter that a commit puts.
type posted struct {
	line   Line
	side   Side
	letter Letter
}

// OnLetter has fn told of each message that is answered or fails for good, when that is
// durable. Whoever leads the committer calls it: it must not wait, nor call the engine. A
// letter that it is told of may be gone already, or not have come after all.
func (e *Engine) OnLetter(fn func(line Line, side Side, l Letter)) { e.committer.told.Store(&fn) }

// post stages the letter of a result.
func (t *tx) post(job *navvy.Job, r *navvy.Result, state *State) {
	side := sideOf(r.State)
	t.put(letterKey(job, side, r.Task.Index), encodeLetter(r.Round))
	state.Letters++
	t.posted = append(t.posted, posted{LineOf(job), side, Letter{Task: r.Task, Sent: job.Accepted, Round: r.Round}})
}

// letter reads a letter of a job, nil if there is none, with what earlier steps of this
// commit did to it.
func (t *tx) letter(key []byte) (*entryInTx, uint32, error) {
	entry, err := t.entry(key)
	if err != nil {
		return nil, 0, fmt.Errorf("engine: read a letter: %w", err)
	}
	if entry.value == nil {
		return nil, 0, nil
	}
	round, err := decodeLetter(entry.value)
	return entry, round, err
}

// Letters gives at most limit letters of one side of a line in their order, from behind a
// place on; nil is the start, and no limit gives all. It passes over those that are damaged.
func (e *Engine) Letters(ctx context.Context, line Line, side Side, behind []byte, limit int) ([]Letter, error) {
	prefix := line.sidePrefix(side)
	r := driver.Prefix(prefix)
	if behind != nil {
		r.Start = append(append(bytes.Clone(prefix), behind...), 0)
	}
	var list []Letter
	err := e.store.Scan(ctx, r, func(key, value []byte) error {
		if l, err := letterAt(key[len(prefix):], value); err == nil {
			list = append(list, l)
		}
		if limit > 0 && len(list) == limit {
			return driver.ErrStop
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s of queue %s: %w", side, line.Queue, err)
	}
	return list, nil
}

// LetterLines gives all lines of which a letter waits, ordered by queue, then owner. It asks
// once for each, however many wait.
func (e *Engine) LetterLines(ctx context.Context) ([]Line, error) {
	return e.linesOf(ctx, tableLetter, func(l Line) []byte { return append(l.sidePrefix(DeadLetters+1), 0) }) // behind all sides
}

// CountLetters counts the letters of one side of a line, up to limit.
func (e *Engine) CountLetters(ctx context.Context, line Line, side Side, limit int) (n int, err error) {
	r := driver.Prefix(line.sidePrefix(side))
	r.Limit = limit
	err = e.store.Scan(ctx, r, func(_, _ []byte) error {
		n++
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("%s of queue %s: %w", side, line.Queue, err)
	}
	return n, nil
}

// HasLetter tells whether a letter still waits.
func (e *Engine) HasLetter(ctx context.Context, line Line, side Side, l *Letter) (bool, error) {
	value, err := e.store.Get(ctx, append(line.sidePrefix(side), l.Place()...))
	if errors.Is(err, navvy.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("%s of queue %s: %w", side, line.Queue, err)
	}
	round, err := decodeLetter(value)
	return err == nil && round == l.Round, err
}

// LetterRef names a letter to whoever has it from a Letter.
type LetterRef struct {
	Task  navvy.TaskID
	Round uint32
}

// Acknowledge takes letters off one side of a line for good, and returns when that is
// durable: how many there were, and whether a job has lost its last one and expires. What
// is gone already is no error; a letter of another line is ErrNotFound, and then nothing
// is done. Those of a job that is damaged stay, with ErrCorrupt, and the others go.
func (e *Engine) Acknowledge(ctx context.Context, line Line, side Side, refs []LetterRef) (n int, expires bool, err error) {
	byJob := map[navvy.JobID][]LetterRef{}
	for _, ref := range refs {
		byJob[ref.Task.Job] = append(byJob[ref.Task.Job], ref)
	}
	var damaged error
	err = e.committer.do(ctx, func(t *tx) error {
		n, expires, damaged = 0, false, nil
		acks := make([]*acks, 0, len(byJob))
		for id, refs := range byJob { // nothing is staged before all are judged
			a, err := t.acks(id, line, side, refs)
			if errors.Is(err, navvy.ErrNotFound) && a == nil {
				continue // the job is gone, and they with it
			} else if errors.Is(err, navvy.ErrCorrupt) {
				damaged = err
				continue
			} else if err != nil {
				return err
			}
			acks = append(acks, a)
		}
		for _, a := range acks {
			n += len(a.entries)
			expires = t.acknowledge(a) || expires
		}
		return nil
	})
	if err != nil {
		return 0, false, err
	}
	return n, expires, damaged
}

// acks are the letters of one job that are acknowledged.
type acks struct {
	job     *navvy.Job
	keys    [][]byte
	entries []*entryInTx
}

// acks finds those that are there. Of a job that is gone it is nil and ErrNotFound.
func (t *tx) acks(id navvy.JobID, line Line, side Side, refs []LetterRef) (*acks, error) {
	if _, err := t.state(id); err != nil {
		return nil, err
	}
	job, err := t.job(id)
	if err != nil {
		return nil, err
	}
	a := &acks{job: job}
	if !job.Responses || LineOf(job) != line {
		return a, fmt.Errorf("message %s: there is none in queue %s: %w", refs[0].Task, line.Queue, navvy.ErrNotFound)
	}
	seen := map[*entryInTx]bool{}
	for _, ref := range refs {
		key := letterKey(job, side, ref.Task.Index)
		entry, round, err := t.letter(key)
		if err != nil {
			return a, err
		}
		if entry != nil && round == ref.Round && !seen[entry] {
			seen[entry] = true
			a.keys, a.entries = append(a.keys, key), append(a.entries, entry)
		}
	}
	return a, nil
}

// acknowledge stages the end of letters, and tells whether the job expires now.
func (t *tx) acknowledge(a *acks) bool {
	if len(a.keys) == 0 {
		return false
	}
	state := t.touch(t.states[a.job.ID])
	t.withdrawn(state, a)
	if !state.Ended() || state.Letters > 0 {
		return false
	}
	t.expireDone(a.job, state)
	return true
}

// expireDone lets an ended job expire that nobody has anything to ask of any more.
func (t *tx) expireDone(job *navvy.Job, state *State) {
	state.Read = true
	keep := t.opts.Clock().Sub(state.Finished)
	if job.IdempotencyKey != "" { // a repeated send must find it
		keep = max(t.opts.KeepRead, keep+min(t.opts.KeepRead, 24*time.Hour))
	}
	t.expire(job.ID, state, keep)
}

// Discard ends a job of messages: those that have no answer are gone. The job expires
// when no letter of it is left. It does nothing to a job that has ended.
func (e *Engine) Discard(ctx context.Context, id navvy.JobID, why string) (messages int64, after State, err error) {
	after, err = e.change(ctx, id, func(t *tx, job *navvy.Job, state *State) error {
		if messages = 0; state.Ended() {
			return nil
		}
		messages = state.Pending()
		stop(t, job, state, why)
		if state.Letters == 0 {
			t.expireDone(job, state)
		}
		return nil
	})
	return messages, after, err
}

func (t *tx) withdrawn(state *State, a *acks) {
	for i, key := range a.keys {
		t.delete(key)
		a.entries[i].value = nil
	}
	state.Letters -= int64(len(a.keys))
}

// withdraw stages the end of the letters of results that a retry is about. It is in the
// batch that decides the retry: whoever acknowledges one of them later finds none.
func (t *tx) withdraw(job *navvy.Job, state *State, sel RetrySelection) error {
	if !job.Responses {
		return nil
	}
	a := &acks{job: job}
	take := func(key []byte) error {
		entry, _, err := t.letter(key)
		if entry != nil {
			a.keys, a.entries = append(a.keys, key), append(a.entries, entry)
		}
		return err
	}
	for _, side := range []Side{Responses, DeadLetters} {
		if sel.Failed && side == Responses {
			continue
		}
		for _, i := range sel.Indexes {
			if err := take(letterKey(job, side, i)); err != nil {
				return err
			}
		}
		if len(sel.Indexes) > 0 {
			continue
		}
		err := t.store.Scan(t.ctx, driver.Prefix(lettersPrefix(job, side)), func(key, _ []byte) error {
			return take(bytes.Clone(key))
		})
		if err != nil {
			return fmt.Errorf("engine: letters of job %s: %w", job.ID, err)
		}
	}
	t.withdrawn(state, a)
	return nil
}

// dropLetters stages the end of all letters of a job that is being removed.
func (t *tx) dropLetters(job *navvy.Job, state *State) {
	if !job.Responses {
		return
	}
	for _, side := range []Side{Responses, DeadLetters} {
		p := lettersPrefix(job, side)
		t.batch.DeleteRange(p, driver.PrefixEnd(p))
	}
	state.Letters = 0
}
