package ask

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
)

// GaveUpError is the end of a run to which no answer came for as long as its patience. It
// wraps navvy.ErrUnavailable.
type GaveUpError struct {
	Patience time.Duration
	// Answered is how many answers were given.
	Answered int64
	// Missing are the requests without an answer, from 0, in their order.
	Missing []int64
	// More says that there are, or may be, further inputs, which were not sent.
	More bool
}

// Error names the first inputs that have no answer; people count them from 1.
func (e *GaveUpError) Error() string {
	var b strings.Builder
	sent := e.Answered + int64(len(e.Missing))
	fmt.Fprintf(&b, "no answer came within %s; %d of %d requests are answered", e.Patience, e.Answered, sent)
	if n := len(e.Missing); n > 0 {
		word := map[bool]string{true: "input", false: "inputs"}[n == 1]
		fmt.Fprintf(&b, ", not %s %s", word, e.first())
	}
	if e.More {
		fmt.Fprintf(&b, "; what comes behind input %d was not sent", sent)
	}
	return b.String()
}

// named is how many inputs an error names.
const named = 10

func (e *GaveUpError) first() string {
	some := e.Missing[:min(named, len(e.Missing))]
	words := make([]string, len(some))
	for i, index := range some {
		words[i] = strconv.FormatInt(index+1, 10)
	}
	text := strings.Join(words, ", ")
	if more := len(e.Missing) - len(some); more > 0 {
		text += fmt.Sprintf(" … and %d more", more)
	}
	return text
}

// Unwrap tells the kind of error.
func (e *GaveUpError) Unwrap() error { return navvy.ErrUnavailable }

var errTired = errors.New("no answer came")

// patient is a context that ends with the patience for the next answer.
func (a *Asker) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.opts.Patience <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, a.opts.Patience, errTired)
}

// giveUp gives what has come and whose turn has not, and says what is missing. Nobody sends
// or collects any more.
func (a *Asker) giveUp(ctx context.Context, give func(int64, []byte) error) error {
	var acks sync.WaitGroup
	defer acks.Wait()
	for _, index := range slices.Sorted(maps.Keys(a.waiting)) {
		if err := a.give(ctx, &acks, index, a.waiting[index], give); err != nil {
			return err
		}
	}
	e := &GaveUpError{Patience: a.opts.Patience, Answered: a.answered.Load(), More: a.total.Load() < 0}
	for index := range a.begun.Load() {
		if index >= a.next && !a.seen[index] {
			e.Missing = append(e.Missing, index)
		}
	}
	return e
}
