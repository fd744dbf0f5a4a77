package netrpc

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
)

// Records keep what must survive a restart: small values by name, durable when Apply
// returns. The methods may be called at once.
type Records interface {
	// List gives at most limit records whose names begin with prefix and come after
	// the name after, in byte order, and the name to go on after: empty at the end.
	List(ctx context.Context, prefix, after string, limit int) (list []Record, next string, err error)
	// Apply makes changes, all or none.
	Apply(ctx context.Context, changes ...Change) error
}

// Record is a value with its name.
type Record struct {
	Name  string
	Value []byte
}

// Change writes a record, or with Delete takes it away; it need not exist.
type Change struct {
	Record
	Delete bool
}

// What names begin with: workers by address, work by when it came.
const (
	workerPrefix = "worker/"
	todoPrefix   = "todo/"
	donePrefix   = "done/"
)

// Work is a record of work: what is under todo/ waits, what is under done/ was assigned.
type Work struct {
	JobName  string    `json:"jobName"`
	Given    time.Time `json:"given"`
	Worker   string    `json:"worker,omitempty"` // to which it was assigned
	Assigned time.Time `json:"assigned,omitzero"`
}

// number is the end of a name of work; names are in the order of numbers.
func number(n int64) string { return fmt.Sprintf("%020d", n) }

func record(name string, value any) (Change, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return Change{}, fmt.Errorf("netrpc: %s: %w", name, err)
	}
	return Change{Record: Record{name, b}}, nil
}

func readWork(r *Record) (Work, error) {
	var w Work
	if err := json.Unmarshal(r.Value, &w); err != nil {
		return w, fmt.Errorf("netrpc: %s: %w: %w", r.Name, err, navvy.ErrCorrupt)
	}
	return w, nil
}

// each gives all records of a prefix.
func each(ctx context.Context, records Records, prefix string, yield func(*Record) error) error {
	for after := ""; ; {
		list, next, err := records.List(ctx, prefix, after, page)
		if err != nil {
			return err
		}
		for i := range list {
			if err := yield(&list[i]); err != nil {
				return err
			}
		}
		if after = next; after == "" {
			return nil
		}
	}
}

// page is how many records are read at once.
const page = 1000
