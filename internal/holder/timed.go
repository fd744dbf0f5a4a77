package holder

import (
	"context"
	"time"

	"github.com/navvy-run/navvy/engine/driver"
)

// timedStore measures how long it takes until something is durable.
type timedStore struct {
	driver.Store
	took func(time.Duration)
}

// Apply carries out a batch.
func (s *timedStore) Apply(ctx context.Context, b *driver.Batch) error {
	begun := time.Now()
	err := s.Store.Apply(ctx, b)
	if err == nil {
		s.took(time.Since(begun))
	}
	return err
}

// CreateLog starts a log.
func (s *timedStore) CreateLog(ctx context.Context, name string) (driver.LogWriter, error) {
	w, err := s.Store.CreateLog(ctx, name)
	if err != nil {
		return nil, err
	}
	return &timedLog{w, s.took}, nil
}

type timedLog struct {
	driver.LogWriter
	took func(time.Duration)
}

// Sync makes the log durable.
func (l *timedLog) Sync() error {
	begun := time.Now()
	err := l.LogWriter.Sync()
	if err == nil {
		l.took(time.Since(begun))
	}
	return err
}
