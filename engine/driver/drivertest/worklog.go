package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Every fourth batch of a writer has a log, which is written and synced before
// the batch is applied, as the output of a task is before its result. Some
// bytes more are appended behind those that are synced.

func logOf(id int, i uint64) string { return fmt.Sprintf("crash/w%d/%d/log", id, i) }

// logSizes returns how many bytes of the log of a batch are synced, and how
// many are appended; 0 if it has none.
func logSizes(seed uint64, id, i int) (synced, appended int) {
	if i%4 != 0 {
		return 0, 0
	}
	choose := random(seed^0x106, uint64(id)<<32|uint64(i))
	synced = 1 + choose.IntN(20_000)
	return synced, synced + choose.IntN(10_000)
}

func logBytes(id, i, size int) []byte { return pattern(31*id+7*i, size) }

func (w *work) writeLog(ctx context.Context, s driver.Store, id, i int) error {
	synced, appended := logSizes(w.seed, id, i)
	if synced == 0 {
		return nil
	}
	contents := logBytes(id, i, appended)
	// A try of an earlier generation may have left its log.
	name := logOf(id, uint64(i))
	if err := s.DropLogs(ctx, name); err != nil {
		return err
	}
	l, err := s.CreateLog(ctx, name)
	if err != nil {
		return err
	}
	half := synced / 2
	for _, step := range []func() error{
		func() error { return l.Append(contents[:half]) },
		func() error { return l.Append(contents[half:synced]) },
		l.Sync,
		func() error { return l.Append(contents[synced:]) },
	} {
		if err := step(); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	return l.Close()
}

// dropLogs drops, now and then, all logs of a writer.
func (w *work) dropLogs(ctx context.Context, s driver.Store, id int, i uint64) error {
	if i%23 != 0 {
		return nil
	}
	if err := s.DropLogs(ctx, fmt.Sprintf("crash/w%d", id)); err != nil {
		return err
	}
	w.writers[id].dropped.Store(i)
	return nil
}

// verifyLogs checks the logs of a writer of which n batches are there; those
// up to dropped must not be.
func (w *work) verifyLogs(ctx context.Context, s driver.Store, id int, n, dropped uint64) error {
	for i := uint64(1); i <= n; i++ {
		synced, appended := logSizes(w.seed, id, int(i))
		if synced == 0 {
			continue
		}
		r, err := s.OpenLog(ctx, logOf(id, i))
		switch {
		case i <= dropped && err == nil:
			return errors.Join(fmt.Errorf("log %s is there, though dropped", logOf(id, i)), r.Close())
		case i <= dropped && errors.Is(err, navvy.ErrNotFound):
			continue
		// The writer may have been dropping when the store crashed.
		case errors.Is(err, navvy.ErrNotFound) && i <= n/23*23:
			continue
		case err != nil:
			return err
		}
		err = verifyLog(r, id, int(i), synced, appended)
		if err := errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("log %s: %w", logOf(id, i), err)
		}
	}
	return nil
}

func verifyLog(r driver.LogReader, id, i, synced, appended int) error {
	p := make([]byte, appended+1)
	n, err := r.ReadAt(p, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n < synced || n > appended {
		return fmt.Errorf("has %d bytes, %d were synced, %d appended", n, synced, appended)
	}
	if !bytes.Equal(p[:synced], logBytes(id, i, synced)) {
		return fmt.Errorf("the %d bytes that were synced are others", synced)
	}
	return nil
}
