package api

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// Text makes a text for people fit to be sent: what is not UTF-8 in it, as the
// name of a file may be, is replaced.
func Text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func duration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func fromTimestamp(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func byteStrings(list []string) [][]byte {
	if len(list) == 0 {
		return nil
	}
	out := make([][]byte, len(list))
	for i, s := range list {
		out[i] = []byte(s)
	}
	return out
}

func fromByteStrings(list [][]byte) []string {
	if len(list) == 0 {
		return nil
	}
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = string(b)
	}
	return out
}

// FromSpec is a spec as a message.
func FromSpec(s *navvy.Spec) *navvyv1.Spec {
	m := &navvyv1.Spec{
		Timeout: duration(s.Timeout), Grace: duration(s.Grace), Limits: fromLimits(&s.Limits), Network: s.Network,
		Labels: s.Labels, Resources: s.Resources, IsolateByDefault: s.IsolateByDefault, Stage: fromStage(&s.Stage),
	}
	if s.Isolate {
		m.Isolate = &s.Isolate
	}
	if s.Retry != (navvy.Retry{}) {
		m.Retry = &navvyv1.Retry{Max: int32(s.Retry.Max), Backoff: duration(s.Retry.Backoff), BackoffMax: duration(s.Retry.BackoffMax)}
	}
	switch {
	case s.Command != nil:
		c := s.Command
		m.Kind = &navvyv1.Spec_Command{Command: &navvyv1.Command{
			Args: byteStrings(c.Args), Literal: c.Literal, Shell: c.Shell, Stdin: c.Stdin,
			Columns: byteStrings(c.Columns), Env: byteStrings(c.Env), Dir: []byte(c.Dir),
		}}
	case s.Noop != nil:
		m.Kind = &navvyv1.Spec_Noop{Noop: &navvyv1.Noop{}}
	case s.Function != nil:
		f := s.Function
		m.Kind = &navvyv1.Spec_Function{Function: &navvyv1.Function{
			Id: f.ID, Name: f.Name, Version: int32(f.Version), Encoding: string(f.Encoding), Batch: f.Batch,
			Path: f.Path, Modules: f.Modules,
		}}
	case s.Service != nil:
		v := s.Service
		m.Kind = &navvyv1.Spec_Service{Service: &navvyv1.Service{
			Form: v.Form, Env: byteStrings(v.Env), Dir: []byte(v.Dir), Package: fromPackage(v.Package),
		}}
	}
	return m
}

// ToSpec reads the message; Validate judges it.
func ToSpec(m *navvyv1.Spec) navvy.Spec {
	s := navvy.Spec{
		Timeout: m.GetTimeout().AsDuration(), Grace: m.GetGrace().AsDuration(),
		Limits: toLimits(m.GetLimits()), Isolate: m.GetIsolate(), Network: m.GetNetwork(),
		Labels: m.GetLabels(), Resources: m.GetResources(), IsolateByDefault: m.GetIsolateByDefault(),
		Stage: toStage(m.GetStage()),
	}
	if r := m.GetRetry(); r != nil {
		s.Retry = navvy.Retry{Max: int(r.GetMax()), Backoff: r.GetBackoff().AsDuration(), BackoffMax: r.GetBackoffMax().AsDuration()}
	}
	if c := m.GetCommand(); c != nil {
		s.Command = &navvy.Command{
			Args: fromByteStrings(c.GetArgs()), Literal: c.GetLiteral(), Shell: c.GetShell(), Stdin: c.GetStdin(),
			Columns: fromByteStrings(c.GetColumns()), Env: fromByteStrings(c.GetEnv()), Dir: string(c.GetDir()),
		}
	}
	if m.GetNoop() != nil {
		s.Noop = &navvy.Noop{}
	}
	if f := m.GetFunction(); f != nil {
		s.Function = &navvy.Function{
			ID: f.GetId(), Name: f.GetName(), Version: int(f.GetVersion()), Encoding: navvy.Encoding(f.GetEncoding()), Batch: f.GetBatch(),
			Path: f.GetPath(), Modules: f.GetModules(),
		}
	}
	if v := m.GetService(); v != nil {
		s.Service = &navvy.Service{
			Form: v.GetForm(), Env: fromByteStrings(v.GetEnv()), Dir: string(v.GetDir()), Package: toPackage(v.GetPackage()),
		}
	}
	return s
}

// FromJob is a job as a message.
func FromJob(j *navvy.Job) *navvyv1.Job {
	m := &navvyv1.Job{
		Id: string(j.ID), Name: j.Name, Owner: j.Owner, Queue: j.Queue, Priority: j.Priority,
		Accepted: timestamp(j.Accepted), Spec: FromSpec(&j.Spec), Format: navvyv1.InputFormat(j.Format),
		Parallelism: int32(j.Parallelism), Delay: duration(j.Delay), Shuffle: j.Shuffle,
		Detached: j.Detached, IdempotencyKey: j.IdempotencyKey, Responses: j.Responses,
	}
	if j.MaxFails != nil {
		m.MaxFails = &navvyv1.MaxFails{Count: j.MaxFails.Count, Percent: j.MaxFails.Percent}
	}
	return m
}

// ToJob reads the message; Validate judges it.
func ToJob(m *navvyv1.Job) navvy.Job {
	j := navvy.Job{
		ID: navvy.JobID(m.GetId()), Name: m.GetName(), Owner: m.GetOwner(), Queue: m.GetQueue(), Priority: m.GetPriority(),
		Accepted: fromTimestamp(m.GetAccepted()), Spec: ToSpec(m.GetSpec()), Format: navvy.InputFormat(m.GetFormat()),
		Parallelism: int(m.GetParallelism()), Delay: m.GetDelay().AsDuration(), Shuffle: m.GetShuffle(),
		Detached: m.GetDetached(), IdempotencyKey: m.GetIdempotencyKey(),
		Responses: m.GetResponses(),
	}
	if f := m.GetMaxFails(); f != nil {
		j.MaxFails = &navvy.MaxFails{Count: f.GetCount(), Percent: f.GetPercent()}
	}
	return j
}

// FromStatus is where a job stands as a message.
func FromStatus(s *navvy.Status) *navvyv1.Status {
	return &navvyv1.Status{
		State: navvyv1.State(s.State()),
		Counts: &navvyv1.Counts{
			Queued: s.Counts.Queued, Running: s.Counts.Running, Succeeded: s.Counts.Succeeded,
			Failed: s.Counts.Failed, Stopped: s.Counts.Stopped,
		},
		Open: s.Open, Held: s.Held, Cut: s.Cut, Why: Text(s.Why), Waiting: Text(s.Waiting),
		Finished: timestamp(s.Finished), Read: s.Read, Expires: timestamp(s.Expires),
		Attempts: s.Attempts, Usage: fromUsage(&s.Usage),
	}
}

// ToStatus reads the message.
func ToStatus(m *navvyv1.Status) navvy.Status {
	c := m.GetCounts()
	return navvy.Status{
		Counts: navvy.Counts{
			Queued: c.GetQueued(), Running: c.GetRunning(), Succeeded: c.GetSucceeded(),
			Failed: c.GetFailed(), Stopped: c.GetStopped(),
		},
		Open: m.GetOpen(), Held: m.GetHeld(), Cut: m.GetCut(), Why: m.GetWhy(), Waiting: m.GetWaiting(),
		Finished: fromTimestamp(m.GetFinished()), Read: m.GetRead(), Expires: fromTimestamp(m.GetExpires()),
		Attempts: m.GetAttempts(), Usage: toUsage(m.GetUsage()),
	}
}

// FromJobStatus is a job and where it stands as a message.
func FromJobStatus(j *navvy.Job, s *navvy.Status) *navvyv1.JobStatus {
	return &navvyv1.JobStatus{Job: FromJob(j), Status: FromStatus(s)}
}
