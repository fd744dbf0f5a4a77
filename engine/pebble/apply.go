package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	lsm "github.com/cockroachdb/pebble/v2"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// commit is a batch on its way to the disk. Commits become durable in the order
// in which they were begun.
type commit struct {
	batch  *lsm.Batch // nil once it is durable
	number uint64
	done   chan struct{} // closed when it is durable, or the store has failed
}

// Apply implements driver.Store.
func (s *Store) Apply(ctx context.Context, b *driver.Batch) error {
	err := s.apply(ctx, b)
	var conflict *driver.ConflictError
	if err == nil || errors.As(err, &conflict) {
		return err
	}
	return fmt.Errorf("pebble: apply: %w", err)
}

func (s *Store) apply(ctx context.Context, b *driver.Batch) error {
	if err := b.Validate(); err != nil {
		return err
	}
	if err := s.life.Begin(ctx); err != nil {
		return err
	}
	defer s.life.Done()
	if err := s.disk.space.admit(ctx, b.Size()); err != nil {
		return err
	}
	batch, err := s.encode(b)
	if err != nil {
		return err
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", navvy.ErrUnavailable, ctx.Err())
	}
	failed, last, err := s.commit(ctx, b, batch)
	if err != nil {
		return err
	}
	// What was seen, or written, must be durable before anybody hears of it.
	if err := s.durable(ctx, last); err != nil {
		return err
	}
	if len(failed) > 0 {
		return &driver.ConflictError{Keys: failed}
	}
	return nil
}

// encode turns the changes into a batch of the storage engine.
func (s *Store) encode(b *driver.Batch) (*lsm.Batch, error) {
	batch := s.db.NewBatchWithSize(b.Size() + 16*len(b.Ops) + 64)
	if len(b.Ops) == 0 {
		return batch, nil
	}
	err := batch.LogData(make([]byte, markSize), nil)
	for _, op := range b.Ops {
		switch op.Kind {
		case driver.OpPut:
			err = batch.Set(op.Key, op.Value, nil)
		case driver.OpDelete:
			err = batch.Delete(op.Key, nil)
		case driver.OpDeleteRange:
			end := op.Value
			if len(end) == 0 {
				end = behindAll
			}
			if bytes.Compare(op.Key, end) < 0 {
				err = batch.DeleteRange(op.Key, end, nil)
			}
		}
		if err != nil {
			return nil, errors.Join(err, batch.Close())
		}
	}
	return batch, nil
}

// behindAll is greater than any key.
var behindAll = bytes.Repeat([]byte{0xff}, driver.MaxKey+1)

// commit checks the conditions and, if all hold, hands the batch to the storage
// engine. It returns the keys whose conditions do not hold and the commit that
// must be durable before the outcome may be told. The caller has the turn, and
// gives it up.
func (s *Store) commit(ctx context.Context, b *driver.Batch, batch *lsm.Batch) (failed [][]byte, last *commit, err error) {
	last = s.last.Load()
	failed, err = s.unmet(b.Conditions)
	if err == nil && len(failed) == 0 && !batch.Empty() {
		if s.disk.space.full.Load() {
			return s.commitOnFull(ctx, batch)
		}
		c := s.next(batch)
		// Before anybody can see the batch, so that whoever sees it waits for it.
		s.last.Store(c)
		s.hand(c)
		<-s.turn
		return nil, c, s.life.Failure()
	}
	<-s.turn
	return failed, last, errors.Join(err, batch.Close())
}

// commitOnFull commits on a full disk, where the storage engine may wait for
// space at any step. The caller need not wait for that, and who reads meanwhile
// sees what was there before.
func (s *Store) commitOnFull(ctx context.Context, batch *lsm.Batch) (failed [][]byte, last *commit, err error) {
	if err := s.durable(ctx, s.last.Load()); err != nil {
		<-s.turn
		return nil, nil, errors.Join(err, batch.Close())
	}
	c := s.next(batch)
	snapshot := s.db.NewSnapshot()
	s.before.set(c, snapshot)
	s.last.Store(c)
	s.life.Go(func() {
		s.hand(c)
		<-c.done
		s.before.set(nil, nil)
		<-s.turn
		_ = snapshot.Close() // it never fails, but may wait for space too
	})
	return nil, c, nil
}

// hand hands a commit to the storage engine, which makes it visible at once,
// durable later.
func (s *Store) hand(c *commit) {
	defer func() {
		// The storage engine panics when it cannot write its log.
		if r := recover(); r != nil {
			s.disk.fail(fmt.Errorf("storage engine: %v", r))
			close(c.done)
		}
	}()
	if err := s.db.ApplyNoSyncWait(c.batch, lsm.Sync); err != nil {
		s.disk.fail(fmt.Errorf("storage engine: %w", err))
		close(c.done)
		return
	}
	s.commits <- c
}

// next numbers a batch. The caller holds the turn.
func (s *Store) next(batch *lsm.Batch) *commit {
	s.number++
	setMark(batch, s.number, s.synced.Load())
	return &commit{batch: batch, number: s.number, done: make(chan struct{})}
}

// awaitSyncs tells the waiting calls, in order, as their commits become durable.
func (s *Store) awaitSyncs() {
	for c := range s.commits {
		if err := c.batch.SyncWait(); err != nil {
			s.disk.fail(fmt.Errorf("storage engine: %w", err))
		}
		s.synced.Store(c.number)
		_ = c.batch.Close() // it only goes back to a pool
		c.batch = nil
		close(c.done)
	}
}

// durable waits until the commit, and all before it, are durable.
func (s *Store) durable(ctx context.Context, c *commit) error {
	if c != nil {
		select {
		case <-c.done:
		case <-ctx.Done():
			return fmt.Errorf("not known to be durable: %w: %w", navvy.ErrUnavailable, ctx.Err())
		}
	}
	return s.life.Failure()
}

// sealLog ends the log with a mark which proves that all of it was durable.
func (s *Store) sealLog() error {
	if s.number == 0 || s.life.Failure() != nil {
		return nil
	}
	batch := s.db.NewBatch()
	if err := batch.LogData(make([]byte, markSize), nil); err != nil {
		return err
	}
	s.next(batch)
	return errors.Join(s.db.Apply(batch, lsm.Sync), batch.Close())
}
