package runner

import (
	"errors"
	"fmt"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/quantity"
	"github.com/navvy-run/navvy/runner/driver"
)

// judge tells what an end means. What navvy did to the attempt counts more than
// what became of it: a process that is asked to end may exit with any code.
func (x *Run) judge(end *driver.End, err error) (navvy.Outcome, navvy.Reason, string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.phase == phaseGivenUp:
		return navvy.OutcomeLost, navvy.ReasonLost, fmt.Sprintf("is not over %s after it was killed", driver.StopTimeout)
	case x.why == causeTimeout:
		return navvy.OutcomeFailed, navvy.ReasonTimeout, fmt.Sprintf("ran longer than %s", x.task.Spec.Timeout)
	case x.why == causeStopped:
		return navvy.OutcomeInterrupted, navvy.ReasonStopped, "stopped"
	case x.why == causeLeft && err != nil:
		x.left = true
		return navvy.OutcomeInterrupted, navvy.ReasonAway, "its worker has left: who is given the task next goes on with it"
	case x.why == causeOutput:
		return navvy.OutcomeLost, navvy.ReasonLost, lostOutput(x.detail)
	case x.tooMuch:
		return navvy.OutcomeFailed, navvy.ReasonOutput, tooMuch(x.task.Spec)
	}
	refusal := end.Refusal
	if refusal != nil || errors.As(err, &refusal) {
		return navvy.OutcomeFailed, refusal.Reason, refusal.Message
	}
	away, isAway := errors.AsType[*driver.Away](err)
	switch {
	case isAway:
		return navvy.OutcomeInterrupted, navvy.ReasonAway, away.Message
	case err != nil && x.execution == nil:
		return navvy.OutcomeLost, navvy.ReasonStart, err.Error()
	case err != nil:
		return navvy.OutcomeLost, navvy.ReasonLost, "how it ended is not known: " + err.Error()
	case end.Exit != navvy.Exit{}:
		reason, message := x.death(end)
		return navvy.OutcomeFailed, reason, message
	}
	return navvy.OutcomeSucceeded, "", ""
}

// tooMuch says that there is more output than a spec allows.
func tooMuch(s *navvy.Spec) string {
	wrote := "wrote"
	if s.Function != nil {
		wrote = "wrote or returned"
	}
	return wrote + " more than its limit of " + quantity.Size(s.Limits.Output)
}

// death tells what a process died of. A call has none to itself.
func (x *Run) death(end *driver.End) (navvy.Reason, string) {
	function := x.task.Spec != nil && x.task.Spec.Function != nil
	whose := ""
	if function {
		whose = "worker process died: "
	}
	switch {
	case end.Usage.OOMKills > 0:
		return navvy.ReasonOOM, whose + outOfMemory(x.task.Spec, &end.Usage)
	case end.Exit.Signal != 0 && function:
		return navvy.ReasonSignal, whose + "signal " + strconv.Itoa(end.Exit.Signal)
	case end.Exit.Signal != 0:
		return navvy.ReasonSignal, "killed by " + signalName(end.Exit.Signal)
	}
	return navvy.ReasonExit, whose + "exit code " + strconv.Itoa(end.Exit.Code)
}

// outOfMemory says what an attempt had and was not to have more of. Spec is nil, or
// without a limit, where somebody else's was reached.
func outOfMemory(spec *navvy.Spec, u *navvy.Usage) string {
	message := "out of memory: the kernel killed it"
	if spec != nil && spec.Limits.Memory > 0 {
		message = "out of memory: needed more than its limit of " + quantity.Size(spec.Limits.Memory)
	}
	if u.MaxMemory > 0 {
		message += fmt.Sprintf(" (peak %s)", quantity.Size(u.MaxMemory))
	}
	return message
}

func lostOutput(err error) string { return fmt.Sprintf("its output could not be kept: %s", err) }

// signalName is the name of a signal, as in SIGSEGV.
func signalName(n int) string {
	if name := unix.SignalName(syscall.Signal(n)); name != "" {
		return name
	}
	return "signal " + strconv.Itoa(n)
}
