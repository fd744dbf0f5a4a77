package container

import (
	"fmt"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// fate is what the end of a pod means for a task that has no end of its own.
type fate struct {
	end driver.End
	err error
}

// away gives a task back.
func away(format string, args ...any) fate {
	return fate{err: &driver.Away{Message: navvy.Shorten(fmt.Sprintf(format, args...))}}
}

// lost is for a task of which nobody can know whether it has run.
func lost(format string, args ...any) fate {
	return fate{err: fmt.Errorf("container: "+format, args...)}
}

// fateLocked tells it, once the pod has ended as end and err say and its log is read.
func (r *packRun) fateLocked(m *member, end driver.End, err error) fate {
	switch {
	case err != nil:
		return fate{err: err}
	case m.stopped:
		return m.stoppedLocked(end)
	case r.attempt.wasStopped():
		return away("its pod was ended for the sake of another task in it")
	case m.broken:
		return lost("a part of the log of its pod is missing")
	case end.Refusal != nil:
		return r.refusedLocked(m, end)
	}
	return r.exitedLocked(m, end)
}

// stoppedLocked is for one that was asked to end.
func (m *member) stoppedLocked(end driver.End) fate {
	switch {
	case m.asked != nil && end.Refusal == nil:
		return fate{end: packedEnd(m.asked)}
	case !m.begun:
		return fate{end: driver.End{Refusal: &driver.Refusal{Reason: navvy.ReasonStopped, Message: "stopped before its turn"}}}
	}
	return fate{end: end}
}

// exitedLocked is for a pod whose program, which is navvy, has ended.
func (r *packRun) exitedLocked(m *member, end driver.End) fate {
	switch {
	case r.gap && !m.begun, r.done, end.Exit == navvy.Exit{}:
		return lost("the log of its pod does not tell how it ended")
	case m.begun:
		return fate{end: end}
	case len(r.passed) > 0:
		return away("its pod ended before its turn: %s", ending(end))
	case end.Usage.OOMKills > 0:
		return fate{end: end}
	}
	// Nothing has run: it is the same for all of them.
	words := r.words
	if words == "" {
		words = ending(end)
	}
	return fate{end: driver.End{Refusal: &driver.Refusal{Reason: navvy.ReasonStart, Message: navvy.Shorten("navvy in its pod has failed: " + words)}}}
}

// refusedLocked is for a pod that came to no end of its own.
func (r *packRun) refusedLocked(m *member, end driver.End) fate {
	switch deleted := end.Refusal.Reason == navvy.ReasonDeleted; {
	case m.begun && deleted: // perhaps by another navvy, for the sake of a task that it has there
		return away("its pod ended: %s", end.Refusal.Message)
	case m.begun:
		return fate{end: end}
	case deleted || len(r.passed) > 0 || r.gap:
		return away("its pod ended before its turn: %s", end.Refusal.Message)
	}
	return fate{end: end}
}

// ending is how a pod ended, in words.
func ending(end driver.End) string {
	switch {
	case end.Usage.OOMKills > 0:
		return "out of memory"
	case end.Exit.Signal != 0:
		return fmt.Sprintf("signal %d", end.Exit.Signal)
	}
	return fmt.Sprintf("exit code %d", end.Exit.Code)
}
