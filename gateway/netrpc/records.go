package netrpc

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/gateway/records"
)

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

func record(name string, value any) (records.Change, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return records.Change{}, fmt.Errorf("netrpc: %s: %w", name, err)
	}
	return records.Change{Record: records.Record{Name: name, Value: b}}, nil
}

func readWork(r *records.Record) (Work, error) {
	var w Work
	if err := json.Unmarshal(r.Value, &w); err != nil {
		return w, fmt.Errorf("netrpc: %s: %w: %w", r.Name, err, navvy.ErrCorrupt)
	}
	return w, nil
}
