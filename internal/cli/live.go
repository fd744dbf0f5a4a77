package cli

import (
	"bufio"
	"io"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/output"
)

// liveOutput prints the output of one task, over as many connections as it
// takes: what was printed is left out when it comes again.
type liveOutput struct {
	stdout, stderr resumed
	value          resumed // what a function returned, which is dropped unless somebody wants it
	buffers        [2]*bufio.Writer
	attempt        navvy.AttemptID // whose output was printed last
	// another is called when the output of a further attempt begins, while attempt is still the
	// one before it; nil if nobody cares.
	another func(now navvy.AttemptID)
}

// newLiveOutput prints to our own streams.
func (a *app) newLiveOutput() *liveOutput {
	return newLiveOutput(a.out, a.err)
}

// newLiveOutput prints to two writers.
func newLiveOutput(stdout, stderr io.Writer) *liveOutput {
	l := &liveOutput{buffers: [2]*bufio.Writer{bufio.NewWriterSize(printing{stdout}, 64<<10), bufio.NewWriterSize(printing{stderr}, 64<<10)}}
	l.through(func(w io.Writer) io.Writer { return w })
	l.value.w = io.Discard
	return l
}

// through puts another writer before each of the streams.
func (l *liveOutput) through(wrap func(io.Writer) io.Writer) {
	l.stdout.w, l.stderr.w = wrap(l.buffers[0]), wrap(l.buffers[1])
}

// sink takes what one connection gives.
func (l *liveOutput) sink() client.OutputSink {
	return client.OutputSink{
		Attempt: func(id navvy.AttemptID) error {
			if l.attempt == id {
				l.again()
				return nil
			}
			if !l.attempt.IsZero() && l.another != nil {
				l.another(id)
			}
			l.attempt = id
			l.stdout.forget()
			l.stderr.forget()
			l.value.forget()
			return nil
		},
		Write: to(&l.stdout, &l.stderr, &l.value),
		Flush: l.flush,
	}
}

// to gives a function that writes each stream to its own writer.
func to(stdout, stderr, value io.Writer) func(output.Stream, []byte) error {
	return func(s output.Stream, p []byte) error {
		var err error
		switch s {
		case output.Stdout:
			_, err = stdout.Write(p)
		case output.Stderr:
			_, err = stderr.Write(p)
		case output.Value:
			_, err = value.Write(p)
		}
		return err
	}
}

// again says that the output comes from its first byte once more.
func (l *liveOutput) again() {
	l.stdout.again()
	l.stderr.again()
	l.value.again()
}

func (l *liveOutput) flush() error {
	for _, b := range l.buffers {
		if err := b.Flush(); err != nil {
			return err
		}
	}
	return nil
}
