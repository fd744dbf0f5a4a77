// Package postgres is the store in a PostgreSQL database, for where one machine
// is outgrown: backup, replication and failover are PostgreSQL's.
//
// One connection makes all changes to the map, one after the other. It also
// holds the lock which says that no other navvy works on the schema, so a store
// that has lost the lock cannot change anything. A second connection makes what
// the first has committed durable, many commits at a time when there are many.
// Both live as long as the store; if one breaks, the store has failed. Reading,
// and the bytes of output logs, go through a pool.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Store is a driver.Store in a schema of a PostgreSQL database. A direct
// connection is needed: a pooler that shares sessions breaks the lock.
type Store struct {
	opts  Options
	place string

	ctx    context.Context // of all work on the server; ended by cancel
	cancel context.CancelFunc
	writer *pgx.Conn // used by write only
	syncer *pgx.Conn // used by sync only
	pool   *pgxpool.Pool
	sql    statements

	commits commits   // used by write only
	jobs    chan *job // to write
	written chan *job // from write to sync
	work    sync.WaitGroup
	last    atomic.Pointer[job] // the newest that may have changed something
	long    chan struct{}       // scans that hold a connection while they call back

	life *driver.Life
}

var _ driver.Store = (*Store)(nil)

// closeWait is how long Close lets calls on the server end by themselves.
const closeWait = 10 * time.Second

// Open opens the store in the database that the URL names, in the form of
// libpq: postgres://user:password@host:port/database?sslmode=verify-full. It
// makes the schema if it is not there. Its errors wrap navvy.ErrInvalid (the
// URL, the options), ErrDenied (password, rights), ErrNotFound (no such
// database), ErrCorrupt (a newer version), or ErrUnavailable (not reached, or
// held by another navvy). None shows the password.
func Open(ctx context.Context, url string, opts *Options) (*Store, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	o := opts.defaults()
	config, err := parse(url, &o)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opts: o, place: place(config, o.Schema), sql: statementsFor(o.Schema),
		jobs: make(chan *job, 64), written: make(chan *job, 64),
		long: make(chan struct{}, o.Connections/2),
	}
	s.life = driver.NewLife(s.place, s.windUp)
	if err := s.open(ctx, config); err != nil {
		return nil, fmt.Errorf("postgres: open %s: %w", s.place, known(err))
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.work.Go(s.write)
	s.work.Go(s.sync)
	return s, nil
}

func (s *Store) open(ctx context.Context, config *pgxpool.Config) (err error) {
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	if s.writer, err = connect(ctx, config); err != nil {
		return err
	}
	if err := settle(ctx, s.writer, s.opts.Schema); err != nil {
		return err
	}
	if s.syncer, err = connect(ctx, config); err != nil {
		return err
	}
	var fsync string
	if err := s.syncer.QueryRow(ctx, "SHOW fsync").Scan(&fsync); err != nil {
		return err
	}
	if fsync == "off" {
		s.opts.Logger.Warn("the server does not wait for its disk (fsync is off): a crash may lose answers", "place", s.place)
	}
	if err := s.writer.QueryRow(ctx, "SHOW synchronous_commit").Scan(&s.commits.wait); err != nil {
		return err
	}
	s.pool, err = pgxpool.NewWithConfig(ctx, config)
	return err
}

// release closes all connections.
func (s *Store) release() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.pool != nil {
		s.pool.Close()
	}
	// If these fail the server will notice that the connections are gone.
	if s.syncer != nil {
		_ = s.syncer.Close(ctx)
	}
	if s.writer != nil {
		_, _ = s.writer.Exec(ctx, "SELECT pg_advisory_unlock_all()")
		_ = s.writer.Close(ctx)
	}
}

// Info implements driver.Store. How much space there is, and whether stored
// bytes are sound, is the server's business.
func (s *Store) Info() driver.Info { return driver.Info{Kind: "postgres", Place: s.place} }

// Close implements driver.Store. It must not be called by a callback of Scan.
func (s *Store) Close() error {
	if !s.life.Close() {
		return fmt.Errorf("postgres: close %s: %w", s.place, navvy.ErrClosed)
	}
	s.life.End()
	s.life.AwaitEnd()
	if err := s.life.Failure(); err != nil {
		return fmt.Errorf("postgres: close: %w", err)
	}
	return nil
}

// fail ends the store: the lock is lost, or it is open what was stored.
func (s *Store) fail(cause error) {
	if !s.life.Fail(cause) {
		return
	}
	if !s.life.Closing() {
		s.opts.Logger.Error("store has failed", "place", s.place, "error", cause)
		go s.opts.OnFatal(fmt.Errorf("postgres: %w", s.life.Failure()))
	}
	s.cancel()
	s.life.End()
}

// windUp releases everything when the calls under way have ended.
func (s *Store) windUp() {
	timer := time.AfterFunc(closeWait, s.cancel)
	s.life.AwaitCalls()
	close(s.jobs)
	s.work.Wait()
	timer.Stop()
	s.cancel()
	s.release()
}

// readError gives an error of reading its sentinel.
func (s *Store) readError(ctx context.Context, err error) error {
	if failure := s.life.Failure(); failure != nil {
		return failure
	}
	if s.ctx.Err() != nil {
		return navvy.ErrClosed
	}
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = errors.Join(err, ctx.Err())
	}
	return known(err)
}
