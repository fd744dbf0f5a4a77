package service_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/service"
)

// actingSpec is a spec of the test binary as a service of that form.
func actingSpec(t testing.TB, form, act string) *navvy.Spec {
	t.Helper()
	return &navvy.Spec{Service: &navvy.Service{Form: form + self(t), Env: acting(act)}}
}

var invoked atomic.Int64

// taskOf is a task that asks a service something, and where its answer goes.
func taskOf(spec *navvy.Spec, owner, body string) (*driver.Task, *bytes.Buffer) {
	var out bytes.Buffer
	n := invoked.Add(1)
	return &driver.Task{
		ID: navvy.TaskID{Job: "0123456789ab", Index: n}, Attempt: navvy.AttemptID{Number: 1, Epoch: 1}, Owner: owner,
		Spec: spec, Input: []byte(body), Stdout: &out, Token: "0123456789ab-" + strconv.FormatInt(n, 10),
	}, &out
}

// ends starts a task and waits for its end.
func ends(t testing.TB, d driver.Driver, task *driver.Task) (driver.End, error) {
	t.Helper()
	x, err := d.Start(t.Context(), task)
	if refusal, ok := errors.AsType[*driver.Refusal](err); ok {
		return driver.End{Refusal: refusal}, nil
	}
	if err != nil {
		t.Error(err)
		return driver.End{}, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), drivertest.Patience)
	defer cancel()
	return x.Wait(ctx)
}

// answers has a service answer a task of an owner.
func answers(t testing.TB, d driver.Driver, spec *navvy.Spec, owner, body string) string {
	t.Helper()
	task, out := taskOf(spec, owner, body)
	if end, err := ends(t, d, task); err != nil || end.Refusal != nil {
		t.Errorf("%.80q ended with %+v, %v", body, end.Refusal, err)
	}
	return out.String()
}

// turnsDown has a service fail a task, with these words.
func turnsDown(t testing.TB, d driver.Driver, spec *navvy.Spec, body string, reason navvy.Reason, words string) {
	t.Helper()
	task, out := taskOf(spec, "ann", body)
	end, err := ends(t, d, task)
	if err != nil || end.Refusal == nil || end.Refusal.Reason != reason || !strings.Contains(end.Refusal.Message, words) || out.Len() > 0 {
		t.Errorf("%.80q ended with %+v, %v and answered %q; want the reason %s with %q", body, end.Refusal, err, out, reason, words)
	}
}

// One instance answers all that an owner asks, at once and one after the other.
func TestOneInstance(t *testing.T) {
	t.Parallel()
	for form, c := range map[string]struct{ act, pid string }{"lines:": {"lines", "pid"}, "grpc-cmd:": {"sdk", "do pid"}} {
		d := newDriver(t, service.DriverOptions{})
		spec := actingSpec(t, form, c.act)
		var mu sync.Mutex
		var all sync.WaitGroup
		pids := map[string]int{}
		for range 100 {
			all.Go(func() {
				pid := answers(t, d, spec, "ann", c.pid)
				mu.Lock()
				defer mu.Unlock()
				pids[pid]++
			})
		}
		all.Wait()
		pids[answers(t, d, actingSpec(t, form, c.act), "ann", c.pid)]++
		if len(pids) != 1 || pids[""] > 0 {
			t.Errorf("%s 101 answers came from %v", form, pids)
		}
	}
}

// Nobody shares an instance with another owner, or in other surroundings.
func TestOwnInstances(t *testing.T) {
	t.Parallel()
	d := newDriver(t, service.DriverOptions{})
	ann := answers(t, d, actingSpec(t, "lines:", "lines"), "ann", "pid")
	others := map[string]string{"bob": answers(t, d, actingSpec(t, "lines:", "lines"), "bob", "pid")}
	for name, change := range map[string]func(*navvy.Spec){
		"form":      func(s *navvy.Spec) { s.Service.Form += " x" },
		"env":       func(s *navvy.Spec) { s.Service.Env = append(s.Service.Env, "A=1") },
		"directory": func(s *navvy.Spec) { s.Service.Dir = t.TempDir() },
		"grace":     func(s *navvy.Spec) { s.Grace = time.Second },
	} {
		spec := actingSpec(t, "lines:", "lines")
		change(spec)
		others[name] = answers(t, d, spec, "ann", "pid")
	}
	task, out := taskOf(actingSpec(t, "lines:", "lines"), "ann", "pid")
	task.Env = []string{"CUDA_VISIBLE_DEVICES=1"}
	if _, err := ends(t, d, task); err != nil {
		t.Error(err)
	}
	others["devices"] = out.String()
	seen := map[string]string{ann: "ann"}
	for name, pid := range others {
		if before, twice := seen[pid]; twice {
			t.Errorf("%s and %s were answered by one instance, %s", name, before, pid)
		}
		seen[pid] = name
	}
	spec := actingSpec(t, "lines:", "lines")
	spec.Timeout, spec.Limits.Output, spec.Retry.Max = time.Hour, 1<<20, 7
	if pid := answers(t, d, spec, "ann", "pid"); pid != ann {
		t.Errorf("what is the attempt's alone led to another instance, %s and not %s", pid, ann)
	}
}

// Each way to fail is told apart.
func TestDriverFailures(t *testing.T) {
	t.Parallel()
	d := newDriver(t, service.DriverOptions{StartTimeout: drivertest.Patience})
	lines, framed, grpc := actingSpec(t, "lines:", "lines"), actingSpec(t, "lines-json:", "lines-json"), actingSpec(t, "grpc-cmd:", "sdk")
	before := answers(t, d, lines, "ann", "pid")
	turnsDown(t, d, lines, "die", navvy.ReasonService, "exit code 7: I die, during the request")
	if after := answers(t, d, lines, "ann", "pid"); after == before {
		t.Error("a dead process has answered")
	}
	turnsDown(t, d, lines, "a\nb", navvy.ReasonRefused, "newline")
	turnsDown(t, d, framed, "fail", navvy.ReasonService, "I fail")
	turnsDown(t, d, framed, "never", navvy.ReasonRefused, "I never do")
	turnsDown(t, d, framed, "garbage", navvy.ReasonService, "no answer")
	turnsDown(t, d, grpc, "invalid", navvy.ReasonRefused, "no")
	turnsDown(t, d, grpc, "fail", navvy.ReasonService, "I fail")
	turnsDown(t, d, grpc, "do die", navvy.ReasonService, "lost during the request")
	for form, c := range map[string]struct {
		reason navvy.Reason
		words  string
	}{
		"grpc-cmd:sh -c 'echo no model >&2; exit 3'": {navvy.ReasonStart, "exit code 3: no model"},
		"grpc-cmd:no-such-program-here":              {navvy.ReasonNotFound, "not found"},
		"soap:x":                                     {navvy.ReasonStart, "no such form"},
		"cgi-raw:sh -c 'echo why >&2; exit 4'":       {navvy.ReasonService, "exit code 4: why"},
	} {
		turnsDown(t, d, &navvy.Spec{Service: &navvy.Service{Form: form}}, "x", c.reason, c.words)
	}
	patient := newDriver(t, service.DriverOptions{Settle: drivertest.Patience})
	turnsDown(t, patient, &navvy.Spec{Service: &navvy.Service{Form: "lines:sh -c 'echo no model >&2; exit 3'"}}, "x", navvy.ReasonStart, "exit code 3: no model")
	never := newDriver(t, service.DriverOptions{StartTimeout: 100 * time.Millisecond})
	turnsDown(t, never, &navvy.Spec{Service: &navvy.Service{Form: "grpc-cmd:sleep 1000"}}, "x", navvy.ReasonStart, "is not up after 100ms")
}

// A service that is away for long has its tasks given back, and nobody is to blame.
func TestAway(t *testing.T) {
	t.Parallel()
	d := newDriver(t, service.DriverOptions{Patience: 300 * time.Millisecond})
	task, _ := taskOf(actingSpec(t, "grpc-cmd:", "sdk"), "ann", "busy")
	a := runner.New(d, nil).Run(t.Context(), &runner.Task{Task: *task})
	if a.Outcome != navvy.OutcomeInterrupted || a.Reason != navvy.ReasonAway || !strings.Contains(a.Message, "later") {
		t.Errorf("the attempt is %s, %s: %s", a.Outcome, a.Reason, a.Message)
	}
}

// What the task says reaches the service: its id, or that of its message.
func TestRequestIDs(t *testing.T) {
	t.Parallel()
	d := newDriver(t, service.DriverOptions{})
	task, out := taskOf(actingSpec(t, "lines-json:", "lines-json"), "ann", "id")
	if _, err := ends(t, d, task); err != nil || out.String() != task.ID.String()+" 1" {
		t.Errorf("a task is told as %q, %v", out, err)
	}
	task, out = taskOf(task.Spec, "ann", "")
	task.Format, task.Input, task.Attempt.Number = navvy.InputMessage, navvy.AppendMessage(nil, "order-9", []byte("id")), 3
	if _, err := ends(t, d, task); err != nil || out.String() != "order-9 3" {
		t.Errorf("a message is told as %q, %v", out, err)
	}
	task, out = taskOf(task.Spec, "ann", "")
	task.Format, task.Input = navvy.InputFields, navvy.AppendFields(nil, "one field")
	if _, err := ends(t, d, task); err != nil || out.String() != "one field" {
		t.Errorf("a field is told as %q, %v", out, err)
	}
	task.Input = navvy.AppendFields(nil, "one", "two")
	if end, err := ends(t, d, task); err != nil || end.Refusal == nil || end.Refusal.Reason != navvy.ReasonInput {
		t.Errorf("two fields: %+v, %v", end.Refusal, err)
	}
}

// A stop and a timeout reach the service, and whoever shares it is not disturbed.
func TestDriverStop(t *testing.T) {
	t.Parallel()
	for form, act := range map[string]string{"lines-json:": "lines-json", "grpc-cmd:": "sdk"} {
		d := newDriver(t, service.DriverOptions{})
		dir, do := t.TempDir(), ""
		if act == "sdk" {
			do = "do "
		}
		spec := actingSpec(t, form, act)
		spec.Service.Dir = dir
		before := answers(t, d, spec, "ann", do+"pid")
		task, out := taskOf(spec, "ann", do+"begin sleep")
		x, err := d.Start(t.Context(), task)
		if err != nil {
			t.Fatal(err)
		}
		until(t, exists(filepath.Join(dir, "begun")))
		if err := x.Stop(t.Context(), false); err != nil {
			t.Error(err)
		}
		end, err := x.Wait(t.Context())
		if err != nil || end.Refusal == nil || end.Refusal.Reason != navvy.ReasonStopped || out.Len() > 0 {
			t.Errorf("%s stopped, and ended with %+v, %v", form, end.Refusal, err)
		}
		until(t, exists(filepath.Join(dir, "cancelled")))
		limited := *spec
		limited.Timeout = 50 * time.Millisecond
		turnsDown(t, d, &limited, do+"sleep", navvy.ReasonTimeout, "ran longer than 50ms")
		if after := answers(t, d, spec, "ann", do+"pid"); after != before {
			t.Errorf("%s the instance is another one, %s and not %s", form, after, before)
		}
	}
}

// Nobody waits any more for a service that is being opened: that is given up.
func TestStopOpening(t *testing.T) {
	t.Parallel()
	d := newDriver(t, service.DriverOptions{})
	dir := t.TempDir()
	task, _ := taskOf(&navvy.Spec{Service: &navvy.Service{Form: "grpc-cmd:sh -c 'echo $$ > begun; exec sleep 1000'", Dir: dir}}, "ann", "x")
	x, err := d.Start(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	until(t, exists(filepath.Join(dir, "begun")))
	if err := x.Stop(t.Context(), true); err != nil {
		t.Error(err)
	}
	if end, err := x.Wait(t.Context()); err != nil || end.Refusal == nil || end.Refusal.Reason != navvy.ReasonStopped {
		t.Errorf("ended with %+v, %v", end.Refusal, err)
	}
	until(t, func() bool { open, _ := d.Instances(); return open == 0 })
}

// Idle services are disposed of: those that have been idle for long, and those that are too many.
func TestRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := service.NewDriver(&service.DriverOptions{Processes: process.NewDriver(nil), Rest: time.Minute, Idle: 2})
		echo := &navvy.Spec{Service: &navvy.Service{Form: "echo"}}
		use := func(owner string) {
			if got := answers(t, d, echo, owner, "x"); got != "x" {
				t.Errorf("answered %q", got)
			}
			synctest.Wait()
		}
		want := func(want int) {
			t.Helper()
			if open, idle := d.Instances(); open != want || idle != want {
				t.Errorf("%d are open and %d idle, want %d", open, idle, want)
			}
		}
		use("ann")
		pass(t, 40*time.Second)
		use("bob")
		want(2)
		pass(t, 40*time.Second)
		want(1) // ann's had its minute
		use("bob")
		pass(t, 40*time.Second)
		want(1) // bob's has begun anew
		use("cid")
		use("dan")
		want(2) // bob's had to go
		pass(t, time.Hour)
		want(0)
		use("ann")
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		want(0)
		task, _ := taskOf(echo, "ann", "x")
		if _, err := ends(t, d, task); !errors.Is(err, navvy.ErrClosed) {
			t.Errorf("after its end: %v", err)
		}
	})
}

// pass lets time pass in a bubble, at once.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	<-time.After(d)
	synctest.Wait()
}

// alive tells whether there is a process with the id that a service has told.
func alive(t *testing.T, pid string) bool {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil || n <= 1 {
		t.Fatalf("%q is no id of a process", pid)
	}
	return unix.Kill(n, 0) == nil
}

// Vacate ends the services of others, kindly.
func TestVacate(t *testing.T) {
	t.Parallel()
	d := newDriver(t, service.DriverOptions{})
	theirs, ours := actingSpec(t, "grpc-cmd:", "sdk"), actingSpec(t, "lines:", "lines")
	theirs.Service.Dir = t.TempDir()
	bob, ann := answers(t, d, theirs, "bob", "do pid"), answers(t, d, ours, "ann", "pid")
	if err := d.Vacate(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	if alive(t, bob) || !exists(filepath.Join(theirs.Service.Dir, "disposed"))() {
		t.Error("bob's service lives, or was not disposed of")
	}
	if again := answers(t, d, ours, "ann", "pid"); again != ann {
		t.Errorf("ann's is another one, %s and not %s", again, ann)
	}
}

// What a dead navvy has left of its idle services ends before others begin.
func TestEarlier(t *testing.T) {
	t.Parallel()
	name := "navvy-test-earlier-" + strconv.Itoa(os.Getpid())
	dead := newDriver(t, service.DriverOptions{Name: name})
	left := answers(t, dead, actingSpec(t, "lines:", "lines"), "bob", "pid")
	next := newDriver(t, service.DriverOptions{Name: name})
	answers(t, next, actingSpec(t, "lines:", "lines"), "ann", "x")
	until(t, func() bool { return !alive(t, left) })
}

// Limits and isolation are those of the spec.
func TestDriverLimits(t *testing.T) {
	t.Parallel()
	d := newDriver(t, service.DriverOptions{Processes: enforcing(t, navvy.AbilityMemory)})
	spec := actingSpec(t, "lines:", "lines")
	spec.Limits.Memory = 256 << 20
	turnsDown(t, d, spec, "eat", navvy.ReasonService, "more memory than its limit")
	none := newDriver(t, service.DriverOptions{})
	turnsDown(t, none, spec, "x", navvy.ReasonStart, "cannot enforce memory")
}

// Whoever is isolated reaches nothing through navvy that it could not reach itself.
func TestDriverIsolation(t *testing.T) {
	t.Parallel()
	d := newDriver(t, service.DriverOptions{Processes: enforcing(t, navvy.AbilityIsolate), StartTimeout: 2 * time.Second})
	spec := actingSpec(t, "grpc-cmd:", "sdk")
	spec.Isolate = true
	if pid := answers(t, d, spec, "ann", "do pid"); pid == "" || len(pid) > 3 {
		t.Errorf("an isolated service has the id %q", pid)
	}
	apart := func(form string) *navvy.Spec {
		return &navvy.Spec{Isolate: true, Service: &navvy.Service{Form: form}}
	}
	turnsDown(t, d, apart("grpc:unix:/run/x.sock"), "x", navvy.ReasonStart, "have navvy start it")
	turnsDown(t, d, apart("grpc-any-cmd:unix:/run/x.sock sleep 1000"), "x", navvy.ReasonStart, "at no socket of this host")
	// A link in the place of its socket leads to nobody, though somebody is there.
	there := filepath.Join(t.TempDir(), "s")
	host := newDriver(t, service.DriverOptions{})
	listening := actingSpec(t, "grpc-any-cmd:unix:"+there+" ", "greeter")
	if got := answers(t, host, listening, "ann", `{"ServiceName":"helloworld.Greeter","MethodName":"SayHello","Payload":""}`); !strings.Contains(got, `"Error":null`) {
		t.Fatalf("the host's own server answers %s", got)
	}
	turnsDown(t, d, apart("grpc-any-cmd:- sh -c 'ln -s "+there+" ${NAVVY_SERVICE_ADDR#unix:}; exec sleep 1000'"), "x", navvy.ReasonStart, "is not up")
}
