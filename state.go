package navvy

import "fmt"

// State is where a task stands, and, derived from its tasks, a job.
// docs/states.md draws both machines.
type State uint8

// The five states. The zero State is none of them.
const (
	Queued State = iota + 1
	Running
	Succeeded
	Failed
	Stopped
)

var stateNames = [...]string{Queued: "queued", Running: "running", Succeeded: "succeeded", Failed: "failed", Stopped: "stopped"}

// String is the state's name in lower case.
func (s State) String() string {
	if s == 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("state(%d)", uint8(s))
	}
	return stateNames[s]
}

// Final tells whether the state is an end: nothing follows but retry.
func (s State) Final() bool { return s == Succeeded || s == Failed || s == Stopped }

// Counts says how many tasks of a job are in each state.
type Counts struct {
	Queued, Running, Succeeded, Failed, Stopped int64
}

// Total is the number of tasks.
func (c Counts) Total() int64 { return c.Queued + c.Running + c.Succeeded + c.Failed + c.Stopped }

// Answered is the number of tasks that have a result.
func (c Counts) Answered() int64 { return c.Succeeded + c.Failed }

// State derives a job's state. It is running while a task runs, and also between
// two tasks once the first is answered, unless the job is held; it ends as the
// worst that its tasks ended in.
func (c Counts) State(held bool) State {
	switch {
	case c.Running > 0:
		return Running
	case c.Queued > 0 && c.Answered() > 0 && !held:
		return Running
	case c.Queued > 0:
		return Queued
	case c.Stopped > 0:
		return Stopped
	case c.Failed > 0:
		return Failed
	default:
		return Succeeded
	}
}
