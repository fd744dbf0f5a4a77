package format

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
)

// Joblog writes one line for each finished task with the columns of GNU
// parallel's --joblog, so that tools which read those read these. It is for one
// goroutine at a time.
type Joblog struct{ w io.Writer }

// NewJoblog makes a job log; with header it begins with the names of its columns.
func NewJoblog(w io.Writer, header bool) (*Joblog, error) {
	if header {
		if _, err := io.WriteString(w, "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"); err != nil {
			return nil, err
		}
	}
	return &Joblog{w: w}, nil
}

// Write adds a task: its number counts from 1, the host is its worker (":" where
// that has no name), what was received is its standard output. A line feed in the
// command becomes a zero byte, as GNU parallel has it. A command that is not found
// has the exit value 127, one that may not be run 126, as in a shell; what else was
// not run, or was lost, has -1, which no process can have.
func (j *Joblog) Write(r *navvy.Result, command string) error {
	host := r.Worker
	if host == "" {
		host = ":"
	}
	exit, ok := exitCode(r)
	switch {
	case r.State == navvy.Failed && r.Exit == (navvy.Exit{}) && ok:
		exit = -1 // it was ended, or is no process
	case ok || r.Exit.Signal != 0:
	case r.Reason == navvy.ReasonNotFound:
		exit = 127
	case r.Reason == navvy.ReasonPermission:
		exit = 126
	default:
		exit = -1
	}
	start := float64(r.Started.UnixMicro()) / 1e6
	if r.Started.IsZero() {
		start = 0
	}
	_, err := fmt.Fprintf(j.w, "%d\t%s\t%.3f\t%10.3f\t%d\t%d\t%d\t%d\t%s\n", r.Task.Index+1, host, start,
		r.Finished.Sub(r.Started).Round(time.Millisecond).Seconds(), 0, r.Output.Stdout, exit, r.Exit.Signal, strings.ReplaceAll(command, "\n", "\x00"))
	return err
}
