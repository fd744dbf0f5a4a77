package api

import (
	"time"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// AttemptID reads the id from a message that has one.
func AttemptID(m interface {
	GetNumber() uint32
	GetEpoch() uint32
}) navvy.AttemptID {
	return navvy.AttemptID{Number: m.GetNumber(), Epoch: m.GetEpoch()}
}

// fromUsage gives no message for no usage.
func fromUsage(u *navvy.Usage) *navvyv1.Usage {
	if *u == (navvy.Usage{}) {
		return nil
	}
	return &navvyv1.Usage{
		UserNs: int64(u.User), SystemNs: int64(u.System), MaxMemory: u.MaxMemory, Read: u.Read, Written: u.Written,
		ThrottledNs: int64(u.Throttled), MaxPids: u.MaxPIDs, OomKills: u.OOMKills,
	}
}

func toUsage(m *navvyv1.Usage) navvy.Usage {
	return navvy.Usage{
		User: time.Duration(m.GetUserNs()), System: time.Duration(m.GetSystemNs()), MaxMemory: m.GetMaxMemory(),
		Read: m.GetRead(), Written: m.GetWritten(), Throttled: time.Duration(m.GetThrottledNs()),
		MaxPIDs: m.GetMaxPids(), OOMKills: m.GetOomKills(),
	}
}

// FromAttempt is an attempt as a message, which shares its inline output.
func FromAttempt(a *navvy.Attempt) *navvyv1.Attempt {
	m := &navvyv1.Attempt{
		Number: a.ID.Number, Epoch: a.ID.Epoch, Outcome: navvyv1.Outcome(a.Outcome), Reason: string(a.Reason), Message: Text(a.Message),
		Worker: Text(a.Worker), Slot: int32(a.Slot), StartedNs: nanos(a.Started), FinishedNs: nanos(a.Finished),
	}
	if a.Exit != (navvy.Exit{}) {
		m.Exit = &navvyv1.Exit{Code: int32(a.Exit.Code), Signal: int32(a.Exit.Signal)}
	}
	m.Usage = fromUsage(&a.Usage)
	if a.Output.Length > 0 {
		o := &a.Output
		m.Output = &navvyv1.Output{Inline: o.Inline, Logged: o.Logged, Length: o.Length, Crc: o.CRC, Stdout: o.Stdout, Stderr: o.Stderr}
	}
	return m
}

// ToAttempt reads the message, and shares its inline output.
func ToAttempt(m *navvyv1.Attempt) navvy.Attempt {
	e, o := m.GetExit(), m.GetOutput()
	return navvy.Attempt{
		ID: AttemptID(m), Outcome: navvy.Outcome(m.GetOutcome()), Reason: navvy.Reason(m.GetReason()), Message: m.GetMessage(),
		Exit:   navvy.Exit{Code: int(e.GetCode()), Signal: int(e.GetSignal())},
		Worker: m.GetWorker(), Slot: int(m.GetSlot()), Started: fromNanos(m.GetStartedNs()), Finished: fromNanos(m.GetFinishedNs()),
		Usage: toUsage(m.GetUsage()),
		Output: navvy.Output{
			Inline: o.GetInline(), Logged: o.GetLogged(), Length: o.GetLength(), CRC: o.GetCrc(),
			Stdout: o.GetStdout(), Stderr: o.GetStderr(),
		},
	}
}

// FromResult is a result as a message, without its input.
func FromResult(r *navvy.Result) *navvyv1.Result {
	return &navvyv1.Result{
		Index: r.Task.Index, State: navvyv1.State(r.State), Attempts: r.Attempts, Round: r.Round,
		Attempt: FromAttempt(&r.Attempt),
	}
}

// ToResult reads the message.
func ToResult(job navvy.JobID, m *navvyv1.Result) navvy.Result {
	return navvy.Result{
		Task:  navvy.TaskID{Job: job, Index: m.GetIndex()},
		State: navvy.State(m.GetState()), Attempts: m.GetAttempts(), Round: m.GetRound(),
		Attempt: ToAttempt(m.GetAttempt()),
	}
}

// FromRef names an attempt in a message.
func FromRef(task navvy.TaskID, attempt navvy.AttemptID) *navvyv1.AttemptRef {
	return &navvyv1.AttemptRef{Job: string(task.Job), Index: task.Index, Number: attempt.Number, Epoch: attempt.Epoch}
}

// ToRef reads the message.
func ToRef(m *navvyv1.AttemptRef) (navvy.TaskID, navvy.AttemptID) {
	return navvy.TaskID{Job: navvy.JobID(m.GetJob()), Index: m.GetIndex()}, AttemptID(m)
}
