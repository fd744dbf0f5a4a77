package mstc_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/gateway/mstc"
	"github.com/navvy-run/navvy/gateway/records"
)

// second is a request of the second generation for an image.
func second(image string) string {
	return `{"image": "` + image + `", "jobName": "align", "inputBucket": "inputs", "prefix": "p", "unknown": [1]}`
}

func first(image string) string {
	return `{"image": "` + image + `", "jobName": "align", "timeOut": 3, "inputBucketUrl": "http://127.0.0.1:9000/inputs"}`
}

// name fits what a Job is called.
const name = `align-[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`

// Each request is answered under its own id, in the words of its generation.
func TestAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gateway()
	a := w.asker()
	cases := map[string]struct {
		body, result, state, reason string
		code                        int // -1 for none
	}{
		"second":         {second("local/ok"), `^Job ` + name + ` complete\.$`, "succeeded", "", 0},
		"second exit":    {second("local/exit3"), `^Job ` + name + ` failed: exit.* 3$`, "failed", "exit", 3},
		"second oom":     {second("local/oom"), `^Job ` + name + ` failed: .*memory`, "failed", "oom", 137},
		"second image":   {second("local/image"), `^Job ` + name + ` failed: ErrImagePull: connection refused$`, "failed", "image", -1},
		"second late":    {second("local/late"), `^Job ` + name + ` timed out after 15 minutes$`, "failed", "timeout", -1},
		"second denied":  {second("evil/miner"), `^denied: image evil/miner is not allowed here, only local/\*$`, "refused", "", -1},
		"first":          {first("local/ok"), "^ok: \ufffd out\n$", "succeeded", "", 0},
		"first exit":     {first("local/exit3"), "^Job " + name + " failed: exit.* 3\nexit3: \ufffd out\n$", "failed", "exit", 3},
		"first late":     {first("local/late"), "^Job " + name + " timed out after 3 minutes\n", "failed", "timeout", -1},
		"no bucket":      {`{"image": "local/ok"}`, "^ok: \ufffd out\n$", "succeeded", "", 0},
		"no image":       {`{"jobName": "x"}`, `^Invalid request No image: \{"jobName": "x"\}$`, "invalid", "", -1},
		"no JSON":        {`no`, `^Invalid request No image: no$`, "invalid", "", -1},
		"nothing":        {``, `^Invalid request No image: $`, "invalid", "", -1},
		"no bucket name": {`{"image": "local/ok", "prefix": "p", "jobName": "a"}`, `^Invalid request No inputBucket: `, "invalid", "", -1},
		"negative":       {`{"image": "local/ok", "timeOut": -1}`, `^Invalid request Bad timeOut: `, "invalid", "", -1},
		"long":           {`{"image": "` + strings.Repeat("x", 300<<10) + `"}`, `^Invalid request The request has \d+ bytes, more than \d+: \{"image": "x+…$`, "invalid", "", -1},
	}
	for id, c := range cases {
		a.send(id, c.body)
	}
	for range len(cases) {
		got := a.next()
		c, known := cases[got.id]
		code := -1
		if got.ExitCode != nil {
			code = *got.ExitCode
		}
		if !known || !regexp.MustCompile(c.result).MatchString(got.Result) || got.State != c.state || got.Reason != c.reason || code != c.code {
			t.Errorf("%s, want %+v", got, c)
		}
		delete(cases, got.id)
	}
	w.until("nothing is owed", func() bool { return len(w.left()) == 0 })
	a.quiet()
}

// The name in an answer is that of the Job, and the job is its owner's.
func TestName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gateway(func(o *mstc.Options) { o.Owner, o.Queue = "sue", "images" })
	a := w.asker()
	a.send("1", second("local/ok"))
	got := a.next()
	jobs := w.jobs()
	if len(jobs) != 1 {
		t.Fatalf("%d jobs", len(jobs))
	}
	j := jobs[0]
	if want := "Job " + j.Spec.Container.JobName(navvy.TaskID{Job: j.ID}, 0, 0) + " complete."; got.Result != want {
		t.Errorf("%s, want %s", got, want)
	}
	want := navvy.Buckets{Input: "inputs", Prefix: "p"}
	if j.Owner != "sue" || j.Queue != "images" || j.Name != "align" || j.Spec.Timeout != 15*time.Minute || j.Spec.Container.Buckets != want {
		t.Errorf("%+v", j)
	}
	w.until("somebody has read it", func() bool { return w.jobs()[0].Status.Read })
}

// What nobody waits for is done, or dropped, and does not come again.
func TestNobodyAsks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gateway()
	a := w.asker()
	a.sendTo("", "", `{"image": "local/ok", "jobName": "alone"}`)
	a.sendTo("", "", "no")
	a.send("last", "no")
	if got := a.next(); got.id != "last" {
		t.Error(got)
	}
	w.until("it is done", func() bool { return len(w.left()) == 0 && len(w.jobs()) == 1 })
	if n := w.runs.begun("alone"); n != 1 || a.waiting() != 0 {
		t.Errorf("begun %d times, %d wait", n, a.waiting())
	}
}

// Whoever has left gets no answer, and is in nobody's way; also who says that requests wait
// for the answer.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gateway()
	a := w.asker()
	a.sendTo("no-such-queue", "1", second("local/ok"))
	a.sendTo("mstc.queue.work", "2", second("local/ok"))
	a.send("3", second("local/ok"))
	if got := a.next(); got.id != "3" || got.State != "succeeded" {
		t.Error(got)
	}
	w.until("nothing is owed", func() bool { return len(w.left()) == 0 && a.waiting() == 0 })
	if n := w.runs.begun("align"); n != 3 {
		t.Errorf("begun %d times", n)
	}
}

// RabbitMQ's own way to answer without a queue works, too.
func TestDirectReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gateway()
	a := w.asker()
	var err error
	a.replies, err = a.ch.Consume("amq.rabbitmq.reply-to", "", true, false, false, false, nil)
	w.must(err)
	for i := range 2 {
		a.sendTo("amq.rabbitmq.reply-to", fmt.Sprint(i), second("local/ok"))
		if got := a.next(); got.id != fmt.Sprint(i) || got.State != "succeeded" {
			t.Error(got)
		}
	}
	w.until("nothing is owed", func() bool { return len(w.left()) == 0 })
	a.quiet()
}

// Requests that are alike to the last byte are two.
func TestAlike(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gateway()
	a := w.asker()
	for _, id := range []string{"", "same"} {
		for range 3 {
			a.send(id, second("local/ok"))
		}
		seen := map[string]bool{}
		for range 3 {
			got := a.next()
			if seen[got.Result] = true; got.id != id || got.State != "succeeded" {
				t.Error(got)
			}
		}
		if len(seen) != 3 {
			t.Errorf("3 requests have %d names: %v", len(seen), seen)
		}
	}
}

// cutter cuts the line to the broker when a request is durable, before the broker knows.
type cutter struct {
	store
	cut func()
}

func (c cutter) Apply(ctx context.Context, changes ...records.Change) error {
	err := c.store.Apply(ctx, changes...)
	for _, ch := range changes {
		if strings.HasPrefix(ch.Name, "doubt/") && !ch.Delete {
			c.cut()
		}
	}
	return err
}

// A request that comes again, since the broker has not heard that it was taken, is not done
// twice; one that is like it is.
func TestComesAgain(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"1", ""} {
		t.Run("id="+id, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			cuts := 0
			w.gatewayOn(cutter{w.store, func() {
				if cuts++; cuts == 1 {
					w.line.set(false)
				}
			}})
			a := w.asker()
			a.send(id, second("local/ok"))
			got := a.next()
			w.until("the broker knows", func() bool { return len(w.left()) == 0 && a.waiting() == 0 })
			if got.State != "succeeded" || w.runs.begun("align") != 1 || cuts != 1 {
				t.Errorf("%s; begun %d times, taken %d times", got, w.runs.begun("align"), cuts)
			}
			a.quiet()
			a.send(id, second("local/ok"))
			if again := a.next(); again.Result == got.Result {
				t.Errorf("%s, as before", again)
			}
		})
	}
}

// A gateway that ends while a job goes on leaves the answer to the next, which also knows
// what the broker may not know: one that died in the midst of taking a request.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	begun := make(chan struct{})
	_, end := w.gatewayOn(cutter{w.store, func() { // dies before it has told
		w.line.set(true)
		close(begun)
	}})
	a := w.asker()
	a.send("1", second("local/wait"))
	<-begun
	w.until("it runs", func() bool { return w.runs.begun("align") == 1 })
	end()
	if left := w.left(); len(left) != 2 {
		t.Errorf("kept: %v", left)
	}
	w.line.set(false)
	_, end = w.gateway()
	w.until("the broker knows", func() bool { return len(w.left()) == 1 && a.waiting() == 0 })
	end()
	a.quiet()
	close(w.runs.free)
	w.gateway()
	if got := a.next(); got.id != "1" || got.State != "succeeded" || w.runs.begun("align") != 1 {
		t.Errorf("%s; begun %d times", got, w.runs.begun("align"))
	}
	w.until("nothing is owed", func() bool { return len(w.left()) == 0 })
	a.quiet()
}

// A doubt that nobody has cleared up is over some time.
func TestDoubtEnds(t *testing.T) {
	t.Parallel()
	for id, d := range map[string]time.Duration{"1": 8 * 24 * time.Hour, "": 2 * time.Hour} {
		t.Run("id="+id, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, end := w.gatewayOn(cutter{w.store, func() { w.line.set(true) }})
			a := w.asker()
			a.send(id, second("local/wait"))
			w.until("it runs", func() bool { return w.runs.begun("align") == 1 })
			end()
			w.clock.Store(int64(d))
			w.line.set(false)
			w.gateway()
			w.until("it is done anew", func() bool { return w.runs.begun("align") == 2 })
			close(w.runs.free)
			a.next()
			a.next()
			w.until("nothing is left", func() bool { return len(w.left()) == 0 })
		})
	}
}

// What there is no room for stays with the broker, and comes as others end.
func TestRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.slots.Store(2)
	w.gateway(func(o *mstc.Options) { o.Ahead = 1 })
	a := w.asker()
	for i := range 10 {
		a.send(fmt.Sprint(i), second("local/wait"))
	}
	w.until("three are taken", func() bool { return w.runs.begun("align") == 3 && a.waiting() == 7 })
	w.slots.Store(4)
	w.until("two more are", func() bool { return w.runs.begun("align") == 5 && a.waiting() == 5 && len(w.left()) == 5 })
	close(w.runs.free)
	for range 10 {
		if got := a.next(); got.State != "succeeded" {
			t.Error(got)
		}
	}
	if w.runs.begun("align") != 10 {
		t.Errorf("begun %d times", w.runs.begun("align"))
	}
}

// Without a broker, and without workers, the gateway says so; what it has it answers as soon
// as it can.
func TestTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.line.set(true)
	g, _ := w.gateway()
	w.until("it says that the broker is away", func() bool {
		list := g.Trouble()
		return len(list) == 1 && strings.Contains(list[0], "no requests come: mstc: broker "+w.line.addr())
	})
	a := w.asker()
	a.send("1", second("local/wait"))
	w.line.set(false)
	w.until("it runs", func() bool { return w.runs.begun("align") == 1 && g.Trouble() == nil })
	w.line.set(true)
	w.until("it says that the broker is away again", func() bool { return len(g.Trouble()) == 1 })
	close(w.runs.free)
	w.until("the job has ended", func() bool { return w.jobs()[0].Status.State() == navvy.Succeeded })
	w.line.set(false)
	if got := a.next(); got.id != "1" || got.State != "succeeded" {
		t.Error(got)
	}
	w.slots.Store(0)
	w.until("it says that nobody runs containers", func() bool {
		list := g.Trouble()
		return len(list) == 1 && strings.Contains(list[0], "no worker that is connected runs containers")
	})
	a.send("2", "no")
	if got := a.next(); got.id != "2" || got.State != "invalid" {
		t.Error(got)
	}
	a.quiet()
}

// Who may not connect is told so.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.vhost = "none"
	g, _ := w.gateway()
	w.until("it says so", func() bool { return strings.Contains(strings.Join(g.Trouble(), ""), `as user "guest": `) })
}

// A queue that is not as the contract has it is an error, not another queue.
func TestOtherQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ch := w.channel()
	_, err := ch.QueueDeclare("mstc.queue.work", true, false, false, false, amqp.Table{"x-max-priority": 5})
	w.must(err)
	g, _ := w.gateway()
	w.until("it says so", func() bool { return strings.Contains(strings.Join(g.Trouble(), ""), "x-max-priority") })
	_, err = ch.QueueDelete("mstc.queue.work", false, false, false)
	w.must(err)
	a := w.asker()
	a.send("1", second("local/ok"))
	if got := a.next(); got.State != "succeeded" {
		t.Error(got)
	}
	// Somebody removes the queue: it is made again.
	_, err = ch.QueueDelete("mstc.queue.work", false, false, false)
	w.must(err)
	w.until("there is a queue again", func() bool {
		ch := w.channel()
		_, err := ch.QueueDeclarePassive("mstc.queue.work", true, false, false, false, nil)
		return err == nil
	})
	w.asker().send("2", "no")
}

// A job that somebody stops, or removes, has an answer.
func TestStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gateway()
	a := w.asker()
	a.send("1", second("local/wait"))
	w.until("it runs", func() bool { return w.runs.begun("align") == 1 })
	_, err := w.api.Stop(t.Context(), w.jobs()[0].ID, "enough of it")
	w.must(err)
	if got := a.next(); got.State != "stopped" || !strings.Contains(got.Result, "enough of it") {
		t.Error(got)
	}
	a.send("2", second("local/wait"))
	w.until("it runs", func() bool { return w.runs.begun("align") == 2 })
	for _, j := range w.jobs() {
		if j.Status.State() == navvy.Running {
			w.must(w.api.Remove(t.Context(), j.ID, true))
		}
	}
	if got := a.next(); got.id != "2" || got.State != "stopped" {
		t.Error(got)
	}
}

// A job that is held waits, and is answered when it has been freed.
func TestHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gateway()
	a := w.asker()
	a.send("1", second("local/wait"))
	w.until("it runs", func() bool { return w.runs.begun("align") == 1 })
	id := w.jobs()[0].ID
	w.must(w.api.Hold(t.Context(), id, "later", true))
	w.until("it is held", func() bool { st := w.jobs()[0].Status; return st.Held && st.Counts.Running == 0 })
	a.quiet()
	close(w.runs.free)
	for _, err := range w.api.Resume(t.Context(), id, client.ResumeOptions{}) {
		w.must(err)
	}
	if got := a.next(); got.State != "succeeded" {
		t.Error(got)
	}
}

// Of a log that is long the answer has the end.
func TestLongLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gateway()
	a := w.asker()
	a.send("1", first("local/big"))
	got := a.next()
	lines := strings.Split(got.Result, "\n")
	said := regexp.MustCompile(`^\[(\d+) bytes before this are left out: who runs this service has them, as the log of job \w+/0\]$`)
	if !said.MatchString(lines[0]) || !strings.HasPrefix(lines[len(lines)-2], "3071 ") || len(got.Result) > 1<<20+200 || len(got.Result) < 1<<20-2000 {
		t.Errorf("%d bytes: %q … %.20q", len(got.Result), lines[0], lines[len(lines)-2])
	}
	if len(lines[1]) != 1023 {
		t.Errorf("it begins in a line: %.20q", lines[1])
	}
}
