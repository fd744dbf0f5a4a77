package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// job is one transaction on the connection that makes all changes.
type job struct {
	// run queues the statements. Nil if there are none: then the job is to wait
	// for what was committed on other connections.
	run func(b *pgx.Batch)
	// changes tells that it may change the map, so that readers wait for it.
	changes bool

	done    chan struct{} // closed when it is durable, or has been refused, or the store has failed
	err     error         // of a job that was refused
	pending bool          // it is committed, but not known to be durable
}

// do has a job done. It returns when that is durable, or the outcome is known
// to be an error, or ctx is done, after which the job may still be done.
func (s *Store) do(ctx context.Context, j *job) error {
	j.done = make(chan struct{})
	select {
	case s.jobs <- j:
	case <-ctx.Done():
		return s.readError(ctx, ctx.Err())
	}
	select {
	case <-j.done:
	case <-ctx.Done():
		return s.readError(ctx, ctx.Err())
	}
	if err := s.life.Failure(); err != nil {
		return err
	}
	return j.err
}

// commits is how the connection that makes all changes commits.
type commits struct {
	wait  string // the setting of synchronous_commit that waits for the disk
	later bool   // now it does not
}

func (c commits) mode() string {
	if c.later {
		return "off"
	}
	return c.wait
}

// write does the jobs, in order. While others wait, a job does not wait for its
// commit to be durable; all of them together do so in sync.
func (s *Store) write() {
	defer close(s.written)
	ping := time.NewTicker(s.opts.ping)
	defer ping.Stop()
	busy := false
	for {
		select {
		case j, ok := <-s.jobs:
			if !ok {
				return
			}
			busy = true
			s.transact(j, len(s.jobs) > 0)
			s.written <- j
		case <-ping.C:
			if !busy {
				s.ping()
			}
			busy = false
		}
	}
}

// ping finds out whether the lock is still held: it lives as long as the connection.
func (s *Store) ping() {
	ctx, cancel := context.WithTimeout(s.ctx, 2*s.opts.ping)
	defer cancel()
	if err := s.writer.Ping(ctx); err != nil {
		s.fail(err)
	}
}

// transact runs a job as one transaction, in one round trip. It either takes
// effect or is refused; if neither is certain the store has failed.
func (s *Store) transact(j *job, later bool) {
	if s.life.Failure() != nil {
		return
	}
	if j.run == nil {
		j.pending = true
		return
	}
	var b pgx.Batch
	commit := s.commits
	if commit.later = later; commit != s.commits {
		b.Queue("SELECT set_config('synchronous_commit', $1, false)", commit.mode())
	}
	j.run(&b)
	if j.changes {
		// Before anybody can see the changes, so that whoever does waits.
		s.last.Store(j)
	}
	err := s.writer.SendBatch(s.ctx, &b).Close()
	switch {
	case err == nil:
		j.pending = later
		s.commits = commit // which is undone with the rest if the job is refused
	case refused(err):
		j.err = err
		if s.writer.IsClosed() {
			s.fail(errors.New("connection lost"))
		}
	default:
		s.fail(err)
	}
}

// sync makes what was committed durable, and tells those who wait, in order.
func (s *Store) sync() {
	for first := range s.written {
		group, pending := []*job{first}, first.pending
		for more := true; more; {
			select {
			case j, ok := <-s.written:
				if more = ok; ok {
					group, pending = append(group, j), pending || j.pending
				}
			default:
				more = false
			}
		}
		if pending && s.life.Failure() == nil {
			// A commit that waits for the disk waits for all that came before it.
			if _, err := s.syncer.Exec(s.ctx, s.sql.flush); err != nil {
				s.fail(err)
			}
		}
		for _, j := range group {
			close(j.done)
		}
	}
}

// durable waits until all that a reader can have seen until now is durable.
func (s *Store) durable(ctx context.Context) error {
	if j := s.last.Load(); j != nil {
		select {
		case <-j.done:
		case <-ctx.Done():
			return s.readError(ctx, ctx.Err())
		}
	}
	return s.life.Failure()
}
