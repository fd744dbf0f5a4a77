package pebble

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	lsm "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/navvy-run/navvy"
)

// check reads all files of the map and verifies their checksums. It holds up
// commits while it reads the newest log, not while it reads the tables. Output
// logs have no checksums of their own.
func (s *Store) check(ctx context.Context) error {
	if err := s.life.Begin(ctx); err != nil {
		return fmt.Errorf("pebble: check: %w", err)
	}
	defer s.life.Done()
	if err := s.checkAll(ctx); err != nil {
		return fmt.Errorf("pebble: check: %w", err)
	}
	return nil
}

func (s *Store) checkAll(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", navvy.ErrUnavailable, ctx.Err())
	}
	err := s.durable(ctx, s.last.Load())
	if err == nil {
		err = checkRecords(s.opts.FS, s.dir)
	}
	<-s.turn
	if err != nil {
		return err
	}
	// There may be other tables beside: replaced ones, or what a crash left.
	levels, err := s.db.SSTables()
	if err != nil {
		return s.readError(err)
	}
	var all []error
	for _, table := range slices.Concat(levels...) {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(all, fmt.Errorf("%w: %w", navvy.ErrUnavailable, err))...)
		}
		all = append(all, s.checkTable(ctx, s.opts.FS.PathJoin(s.dir, table.BackingSSTNum.String()+".sst")))
	}
	return errors.Join(all...)
}

// checkTable reads the file itself: blocks in memory are known to be sound.
func (s *Store) checkTable(ctx context.Context, path string) error {
	err := s.readTable(ctx, path)
	switch {
	case err == nil, errors.Is(err, os.ErrNotExist): // replaced meanwhile
		return nil
	case lsm.IsCorruptionError(err):
		return fmt.Errorf("%s: corrupt: %w", path, damaged{err})
	}
	return fmt.Errorf("%s: %w: %w", path, navvy.ErrUnavailable, err)
}

func (s *Store) readTable(ctx context.Context, path string) (err error) {
	file, err := s.opts.FS.Open(path)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	reader, err := sstable.NewReader(ctx, readable, s.tables)
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(reader.ValidateBlockChecksums(), reader.Close())
}
