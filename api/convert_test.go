package api

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// over sends a message as a socket would.
func over[M proto.Message](t interface{ Fatal(...any) }, m M) M {
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got := m.ProtoReflect().New().Interface().(M)
	if err := proto.Unmarshal(b, got); err != nil {
		t.Fatal(err)
	}
	return got
}

func viaJob(t interface{ Fatal(...any) }, j navvy.Job) navvy.Job {
	return ToJob(over(t, FromJob(&j)))
}

func viaStatus(t interface{ Fatal(...any) }, s navvy.Status) navvy.Status {
	return ToStatus(over(t, FromStatus(&s)))
}

func viaResult(t interface{ Fatal(...any) }, r navvy.Result) navvy.Result {
	return ToResult(r.Task.Job, over(t, FromResult(&r)))
}

// fill sets everything in v to a value of its own that is not zero.
func fill(t *testing.T, v reflect.Value, n *int64) {
	t.Helper()
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(*n)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n))
	case reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0), n)
		fill(t, v.Index(1), n)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key, n)
		fill(t, value, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(*n, *n)))
			return
		}
		for _, field := range v.Fields() {
			fill(t, field, n)
		}
	default:
		t.Fatalf("fill cannot make a %s: teach it", v.Type())
	}
}

// No field is forgotten: each, set to a value of its own, comes back.
func TestEveryField(t *testing.T) {
	t.Parallel()
	n := int64(0)
	var job navvy.Job
	fill(t, reflect.ValueOf(&job).Elem(), &n)
	for _, leave := range []func(*navvy.Spec){
		func(s *navvy.Spec) { s.Command, s.Noop, s.Service, s.Container = nil, nil, nil, nil },
		func(s *navvy.Spec) { s.Command, s.Function, s.Service, s.Container = nil, nil, nil, nil },
		func(s *navvy.Spec) { s.Noop, s.Function, s.Service, s.Container = nil, nil, nil, nil },
		func(s *navvy.Spec) { s.Command, s.Noop, s.Function, s.Container = nil, nil, nil, nil },
		func(s *navvy.Spec) { s.Command, s.Noop, s.Function, s.Service = nil, nil, nil, nil },
	} {
		one := job
		leave(&one.Spec)
		if diff := cmp.Diff(one, viaJob(t, one)); diff != "" {
			t.Error(diff)
		}
	}
	if kinds := reflect.TypeFor[navvy.Spec](); kinds.NumField() != 15 {
		t.Error("spec has another field: is it a kind that this test should know?")
	}
	var status navvy.Status
	fill(t, reflect.ValueOf(&status).Elem(), &n)
	if diff := cmp.Diff(status, viaStatus(t, status)); diff != "" {
		t.Error(diff)
	}
	var result navvy.Result
	fill(t, reflect.ValueOf(&result).Elem(), &n)
	if diff := cmp.Diff(result, viaResult(t, result)); diff != "" {
		t.Error(diff)
	}
	var abilities []navvy.KindAbilities
	fill(t, reflect.ValueOf(&abilities).Elem(), &n)
	var offer navvy.Offer
	fill(t, reflect.ValueOf(&offer).Elem(), &n)
	hello := over(t, &navvyv1.Hello{Abilities: FromAbilities(abilities), Offer: FromOffer(&offer)})
	if diff := cmp.Diff(offer, ToOffer(hello.GetOffer())); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(abilities, ToAbilities(hello.GetAbilities())); diff != "" {
		t.Error(diff)
	}
	var function navvy.FunctionVersion
	fill(t, reflect.ValueOf(&function).Elem(), &n)
	if diff := cmp.Diff(&function, ToFunctionVersion(over(t, FromFunctionVersion(&function)))); diff != "" {
		t.Error(diff)
	}
	task, attempt := navvy.TaskID{Job: "job", Index: 5}, navvy.AttemptID{Number: 6, Epoch: 7}
	if gotTask, gotAttempt := ToRef(over(t, FromRef(task, attempt))); gotTask != task || gotAttempt != attempt {
		t.Errorf("%v, %v", gotTask, gotAttempt)
	}
}

// The zero values come back as they are.
func TestZero(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(navvy.Job{}, viaJob(t, navvy.Job{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(navvy.Status{}, viaStatus(t, navvy.Status{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(navvy.Result{}, viaResult(t, navvy.Result{})); diff != "" {
		t.Error(diff)
	}
	// A message that holds nothing is read as nothing, not as a crash.
	for _, v := range []any{ToJob(nil), ToStatus(nil), ToResult("", nil), ToSpec(nil), ToAttempt(nil)} {
		if !reflect.ValueOf(v).IsZero() {
			t.Errorf("nothing became %+v", v)
		}
	}
}

// bytesOf is a generator of strings that need not be UTF-8.
func bytesOf() *rapid.Generator[string] {
	return rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 8), func(b []byte) string { return string(b) })
}

func listOf() *rapid.Generator[[]string] {
	return rapid.Map(rapid.SliceOfN(bytesOf(), 0, 3), func(l []string) []string {
		if len(l) == 0 {
			return nil
		}
		return l
	})
}

func durations() *rapid.Generator[time.Duration] {
	return rapid.Map(rapid.Int64(), func(n int64) time.Duration { return time.Duration(n) })
}

// instants are times that the wire knows, and the zero time.
func instants() *rapid.Generator[time.Time] {
	return rapid.OneOf(rapid.Just(time.Time{}), rapid.Map(rapid.Int64Range(1, math.MaxInt64), func(n int64) time.Time { return time.Unix(0, n) }))
}

func limits() *rapid.Generator[navvy.Limits] {
	return rapid.Custom(func(t *rapid.T) navvy.Limits {
		var l navvy.Limits
		for i, v := range []*int64{&l.CPUs, &l.CPUShares, &l.Memory, &l.PIDs, &l.Output, &l.ReadBPS, &l.WriteBPS, &l.ReadIOPS, &l.WriteIOPS} {
			*v = rapid.Int64().Draw(t, fmt.Sprint("limit ", i))
		}
		for range rapid.IntRange(0, 3).Draw(t, "ulimits") {
			l.Ulimits = append(l.Ulimits, navvy.Ulimit{Name: rapid.String().Draw(t, "name"), Soft: rapid.Uint64().Draw(t, "soft"), Hard: rapid.Uint64().Draw(t, "hard")})
		}
		return l
	})
}

func jobs() *rapid.Generator[navvy.Job] {
	return rapid.Custom(func(t *rapid.T) navvy.Job {
		j := navvy.Job{
			ID: navvy.JobID(rapid.String().Draw(t, "id")), Name: rapid.String().Draw(t, "name"), Owner: rapid.String().Draw(t, "owner"),
			Queue: rapid.String().Draw(t, "queue"), Priority: rapid.Int32().Draw(t, "priority"), Accepted: instants().Draw(t, "accepted"),
			Format: navvy.InputFormat(rapid.Uint8().Draw(t, "format")), Parallelism: int(rapid.Int32().Draw(t, "parallelism")),
			Delay: durations().Draw(t, "delay"), Shuffle: rapid.Uint64().Draw(t, "shuffle"), Detached: rapid.Bool().Draw(t, "detached"),
			IdempotencyKey: rapid.String().Draw(t, "key"),
			Spec: navvy.Spec{
				Timeout: durations().Draw(t, "timeout"), Grace: durations().Draw(t, "grace"),
				Retry: navvy.Retry{Max: int(rapid.Int32().Draw(t, "max")), Backoff: durations().Draw(t, "backoff"), BackoffMax: durations().Draw(t, "backoff max")},
			},
		}
		j.Spec.Limits, j.Spec.Isolate, j.Spec.Network = limits().Draw(t, "limits"), rapid.Bool().Draw(t, "isolate"), rapid.String().Draw(t, "network")
		if rapid.Bool().Draw(t, "placed") {
			j.Spec.Labels = rapid.MapOfN(rapid.String(), rapid.String(), 1, 3).Draw(t, "labels")
			j.Spec.Resources = rapid.MapOfN(rapid.String(), rapid.Int64(), 1, 3).Draw(t, "resources")
		}
		if rapid.Bool().Draw(t, "limited") {
			j.MaxFails = &navvy.MaxFails{Count: rapid.Int64().Draw(t, "count"), Percent: rapid.Float64().Draw(t, "percent")}
		}
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 1:
			j.Spec.Noop = &navvy.Noop{}
		case 2:
			j.Spec.Command = &navvy.Command{
				Args: listOf().Draw(t, "args"), Literal: rapid.Bool().Draw(t, "literal"), Shell: rapid.Bool().Draw(t, "shell"), Stdin: rapid.Bool().Draw(t, "stdin"),
				Columns: listOf().Draw(t, "columns"), Env: listOf().Draw(t, "env"), Dir: bytesOf().Draw(t, "dir"),
			}
		}
		return j
	})
}

func results() *rapid.Generator[navvy.Result] {
	return rapid.Custom(func(t *rapid.T) navvy.Result {
		r := navvy.Result{
			Task: navvy.TaskID{Job: "job", Index: rapid.Int64().Draw(t, "index")}, State: navvy.State(rapid.Uint8().Draw(t, "state")),
			Attempts: rapid.Uint32().Draw(t, "attempts"), Round: rapid.Uint32().Draw(t, "round"),
			Attempt: navvy.Attempt{
				ID:      navvy.AttemptID{Number: rapid.Uint32().Draw(t, "number"), Epoch: rapid.Uint32().Draw(t, "epoch")},
				Outcome: navvy.Outcome(rapid.Uint8().Draw(t, "outcome")), Reason: navvy.Reason(rapid.String().Draw(t, "reason")),
				Message: rapid.String().Draw(t, "message"), Worker: rapid.String().Draw(t, "worker"), Slot: int(rapid.Int32().Draw(t, "slot")),
				Exit:    navvy.Exit{Code: int(rapid.Int32().Draw(t, "code")), Signal: int(rapid.Int32().Draw(t, "signal"))},
				Started: instants().Draw(t, "started"), Finished: instants().Draw(t, "finished"),
				Usage: navvy.Usage{
					User: durations().Draw(t, "user"), System: durations().Draw(t, "system"), MaxMemory: rapid.Int64().Draw(t, "memory"), Read: rapid.Int64().Draw(t, "read"),
					Written: rapid.Int64().Draw(t, "written"), Throttled: durations().Draw(t, "throttled"), MaxPIDs: rapid.Int64().Draw(t, "pids"), OOMKills: rapid.Int64().Draw(t, "oom"),
				},
			},
		}
		if rapid.Bool().Draw(t, "wrote") {
			r.Output = navvy.Output{
				Logged: rapid.Bool().Draw(t, "logged"), Length: rapid.Int64Range(1, math.MaxInt64).Draw(t, "length"), CRC: rapid.Uint32().Draw(t, "crc"),
				Stdout: rapid.Int64().Draw(t, "stdout"), Stderr: rapid.Int64().Draw(t, "stderr"),
			}
			if inline := rapid.SliceOf(rapid.Byte()).Draw(t, "inline"); len(inline) > 0 {
				r.Output.Inline = inline
			}
		}
		return r
	})
}

func TestRandomJobs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		j := jobs().Draw(t, "job")
		if diff := cmp.Diff(j, viaJob(t, j)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestRandomResults(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := results().Draw(t, "result")
		if diff := cmp.Diff(r, viaResult(t, r)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestRandomStatus(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.Int64()
		s := navvy.Status{
			Counts: navvy.Counts{Queued: count.Draw(t, "queued"), Running: count.Draw(t, "running"), Succeeded: count.Draw(t, "succeeded"), Failed: count.Draw(t, "failed"), Stopped: count.Draw(t, "stopped")},
			Open:   rapid.Bool().Draw(t, "open"), Held: rapid.Bool().Draw(t, "held"), Cut: rapid.Bool().Draw(t, "cut"), Read: rapid.Bool().Draw(t, "read"),
			Why: rapid.String().Draw(t, "why"), Waiting: rapid.String().Draw(t, "waiting"), Finished: instants().Draw(t, "finished"), Expires: instants().Draw(t, "expires"),
		}
		if diff := cmp.Diff(s, viaStatus(t, s)); diff != "" {
			t.Fatal(diff)
		}
		if got := navvy.State(FromStatus(&s).GetState()); got != s.State() {
			t.Fatalf("state %s was sent as %s", s.State(), got)
		}
	})
}

// What is for people and no UTF-8 is made fit; else the message could not be sent.
func TestText(t *testing.T) {
	t.Parallel()
	a := navvy.Attempt{Message: "/x\xff: no such program", Worker: "h\xff"}
	got := ToAttempt(over(t, FromAttempt(&a)))
	if got.Message != "/x\uFFFD: no such program" || got.Worker != "h\uFFFD" {
		t.Errorf("%+v", got)
	}
	if s := viaStatus(t, navvy.Status{Why: "\xff"}); s.Why != "\uFFFD" {
		t.Errorf("%+v", s)
	}
	if s := Text("ünï ☃"); s != "ünï ☃" {
		t.Errorf("%q", s)
	}
}

// The numbers of states, outcomes and formats are the same here and there.
func TestEnums(t *testing.T) {
	t.Parallel()
	for state := navvy.Queued; state <= navvy.Stopped; state++ {
		if got, want := navvyv1.State(state).String(), "STATE_"+strings.ToUpper(state.String()); got != want {
			t.Errorf("%s is %s", want, got)
		}
	}
	for outcome := navvy.OutcomeSucceeded; outcome <= navvy.OutcomeStale; outcome++ {
		if got, want := navvyv1.Outcome(outcome).String(), "OUTCOME_"+strings.ToUpper(outcome.String()); got != want {
			t.Errorf("%s is %s", want, got)
		}
	}
	if navvyv1.InputFormat(navvy.InputFields) != navvyv1.InputFormat_INPUT_FORMAT_FIELDS {
		t.Error("the formats differ")
	}
}
