package servicebusqueue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/servicebusqueue"
	"github.com/navvy-run/navvy/queue/servicebusqueue/servicebustest"
)

func tryOpen(ctx context.Context, url, connection string, o *queue.Options) (*queue.Queue, error) {
	azure := servicebusqueue.Driver(&servicebusqueue.Options{ConnectionString: connection})
	return queue.Open(ctx, url, map[string]driver.Driver{"azservicebus": azure}, o)
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func send(t *testing.T, q *queue.Queue, body string) {
	t.Helper()
	if err := q.Send(within(t), queue.Message{Body: []byte(body)}); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, q *queue.Queue) *queue.Lease {
	t.Helper()
	leases, err := q.Receive(within(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	return leases[0]
}

// dial connects without package queue.
func dial(t *testing.T, raw, connection string, lease time.Duration) driver.Queue {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	d, err := servicebusqueue.Driver(&servicebusqueue.Options{ConnectionString: connection})(u, &driver.Options{Lease: lease, Outstanding: 10, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestForeign receives what others send without our properties.
func TestForeign(t *testing.T) {
	t.Parallel()
	b := servicebustest.Start(t)
	q := open(t, "azservicebus:///foreign", b.ConnectionString(), nil)
	sender, err := client(t, b).NewSender("foreign", nil)
	if err != nil {
		t.Fatal(err)
	}
	for want, sent := range map[string]azservicebus.AMQPAnnotatedMessageBody{
		"two parts": {Data: [][]byte{[]byte("two "), []byte("parts")}}, "text": {Value: "text"}, "": {Data: [][]byte{{}}},
		`[1,"a"]`: {Sequence: [][]any{{int64(1), "a"}}}, "true": {Value: true}, "map[1:x]": {Value: map[any]any{int64(1): "x"}},
	} {
		if err := sender.SendAMQPAnnotatedMessage(within(t), &azservicebus.AMQPAnnotatedMessage{Body: sent}, nil); err != nil {
			t.Fatal(err)
		}
		l := receive(t, q)
		id := l.ID()
		if string(drivertest.Body(t, l)) != want || id == "" || l.Attempt() != 1 {
			t.Errorf("%+v: message %q, attempt %d: %q", sent, id, l.Attempt(), drivertest.Body(t, l))
		}
		if err := l.Nack(within(t), 0); err != nil {
			t.Fatal(err)
		}
		if l = receive(t, q); l.ID() != id || l.Attempt() != 2 {
			t.Errorf("message %q came again as %q, attempt %d", id, l.ID(), l.Attempt())
		}
		if err := l.Ack(within(t)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnreadable has a message at which the SDK panics: others go on.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	b := servicebustest.Start(t)
	q := open(t, "azservicebus:///unreadable", b.ConnectionString(), nil)
	sender, err := client(t, b).NewSender("unreadable", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*azservicebus.Message{{ApplicationProperties: map[string]any{"DeadLetterReason": int64(7)}}, {Body: []byte("next")}} {
		if err := sender.SendMessage(within(t), m, nil); err != nil {
			t.Fatal(err)
		}
	}
	if l := receive(t, q); string(drivertest.Body(t, l)) != "next" {
		t.Errorf("received %q", drivertest.Body(t, l))
	}
}

// TestBounds has IDs that are too long.
func TestBounds(t *testing.T) {
	t.Parallel()
	b := servicebustest.Start(t)
	q := open(t, "azservicebus:///bounds", b.ConnectionString(), nil)
	longest := strings.Repeat("ä", 128)
	for _, m := range []queue.Message{{ID: longest + "x"}, {Correlation: longest + "x"}} {
		if err := q.Send(within(t), m); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("one character too many: %v", err)
		}
	}
	if err := q.Send(within(t), queue.Message{ID: longest, Correlation: "\xff"}); err != nil {
		t.Fatal(err)
	}
	if l := receive(t, q); l.ID() != longest || l.Correlation() != "\xff" {
		t.Errorf("id %q, correlation %q", l.ID(), l.Correlation())
	}
}

// TestThrottled has a service that is busy: all goes well in the end.
func TestThrottled(t *testing.T) {
	t.Parallel()
	b := servicebustest.Start(t)
	q := open(t, "azservicebus:///throttled", b.ConnectionString(), nil)
	b.Misbehave(t, servicebustest.Faults{Busy: 3})
	send(t, q, "patience")
	l := receive(t, q)
	b.Misbehave(t, servicebustest.Faults{Busy: 1})
	if err := l.Ack(within(t)); err != nil {
		t.Error(err)
	}
}

// TestUnheard loses the answer to what settles a message: it is settled.
func TestUnheard(t *testing.T) {
	t.Parallel()
	b := servicebustest.Start(t)
	q := open(t, "azservicebus:///unheard", b.ConnectionString(), nil)
	for what, settle := range map[string]func(*queue.Lease) error{
		"ack":  func(l *queue.Lease) error { return l.Ack(within(t)) },
		"dead": func(l *queue.Lease) error { return l.DeadLetter(within(t), "unheard") },
	} {
		send(t, q, what)
		l := receive(t, q)
		b.Misbehave(t, servicebustest.Faults{Cut: 1})
		if err := settle(l); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if l := receive(t, open(t, "azservicebus:///unheard"+servicebusqueue.DeadSuffix, b.ConnectionString(), nil)); string(drivertest.Body(t, l)) != "dead" || l.Reason() != "unheard" {
		t.Errorf("the dead letter is %q, for %q", drivertest.Body(t, l), l.Reason())
	}
}

// TestSurvives settles messages after the broker was killed: a lock is nobody's connection's.
func TestSurvives(t *testing.T) {
	t.Parallel()
	b := servicebustest.StartOnDisk(t)
	q := open(t, "azservicebus:///survives", b.ConnectionString(), nil)
	settles := map[string]func(*queue.Lease) error{
		"ack":  func(l *queue.Lease) error { return l.Ack(within(t)) },
		"nack": func(l *queue.Lease) error { return l.Nack(within(t), 0) },
		"dead": func(l *queue.Lease) error { return l.DeadLetter(within(t), "it survived") },
	}
	leases := map[string]*queue.Lease{}
	for what := range settles {
		send(t, q, what)
		leases[what] = receive(t, q)
	}
	b.Kill(t)
	b.Restart(t)
	for what, settle := range settles {
		if err := settle(leases[what]); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if l := receive(t, q); string(drivertest.Body(t, l)) != "nack" || l.Attempt() != 2 {
		t.Errorf("%q came again, attempt %d", drivertest.Body(t, l), l.Attempt())
	}
	if l := receive(t, open(t, "azservicebus:///survives"+servicebusqueue.DeadSuffix, b.ConnectionString(), nil)); string(drivertest.Body(t, l)) != "dead" || l.Reason() != "it survived" {
		t.Errorf("the dead letter is %q, for %q", drivertest.Body(t, l), l.Reason())
	}
}

// TestLost loses a connection that nobody uses: what comes then is told at once.
func TestLost(t *testing.T) {
	t.Parallel()
	b := servicebustest.Start(t)
	c := dial(t, "azservicebus:///lost", b.ConnectionString(), time.Minute)
	b.Kill(t)
	for range 2 {
		if _, err := c.Receive(within(t), 1); !errors.Is(err, navvy.ErrUnavailable) {
			t.Errorf("receive: %v", err)
		}
		if errs := c.Send(within(t), []*driver.Message{{ID: "x"}}); len(errs) != 1 || !errors.Is(errs[0], navvy.ErrUnavailable) {
			t.Errorf("send: %v", errs)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestGivenBack gives a message back when nobody receives any more, and closes: somebody
// else has it at once, and not when a lock of five minutes is over.
func TestGivenBack(t *testing.T) {
	t.Parallel()
	b := servicebustest.Start(t)
	o := &queue.Options{Lease: 5 * time.Minute}
	q, err := tryOpen(within(t), "azservicebus:///back", b.ConnectionString(), o)
	if err != nil {
		t.Fatal(err)
	}
	send(t, q, "back")
	l := receive(t, q)
	ctx, cancel := context.WithTimeout(within(t), 100*time.Millisecond)
	defer cancel()
	if _, err := q.Receive(ctx, 5); !errors.Is(err, context.DeadlineExceeded) { // which leaves something asked for
		t.Errorf("receive: %v", err)
	}
	if err := l.Nack(within(t), 0); err != nil {
		t.Error(err)
	}
	if err := q.Close(within(t)); err != nil {
		t.Error(err)
	}
	if l := receive(t, open(t, "azservicebus:///back", b.ConnectionString(), o)); l.Attempt() != 2 {
		t.Errorf("attempt %d", l.Attempt())
	}
}

// TestDead reads dead letters, which are a queue with bounds.
func TestDead(t *testing.T) {
	t.Parallel()
	b := servicebustest.Start(t)
	q := open(t, "azservicebus:///orders", b.ConnectionString(), nil)
	send(t, q, "bad")
	if err := receive(t, q).DeadLetter(within(t), strings.Repeat("ä", 3000)); err != nil {
		t.Fatal(err)
	}
	dead := open(t, "azservicebus:///orders/$deadletterqueue", b.ConnectionString(), nil)
	if dead.Capabilities().Attempts {
		t.Error("deliveries of dead letters are counted")
	}
	if err := dead.Send(within(t), queue.Message{}); !errors.Is(err, navvy.ErrUnsupported) {
		t.Errorf("send: %v", err)
	}
	l := receive(t, dead)
	if l.Reason() != strings.Repeat("ä", 2000) || l.Attempt() != 0 {
		t.Errorf("attempt %d, for %q", l.Attempt(), l.Reason())
	}
	if err := l.DeadLetter(within(t), "still bad"); !errors.Is(err, navvy.ErrUnsupported) {
		t.Errorf("dead letters of dead letters: %v", err)
	}
}

// TestRights has keys that may not do everything.
func TestRights(t *testing.T) {
	t.Parallel()
	b := servicebustest.Start(t)
	sends, listens := b.ConnectionStringWith(servicebustest.Sender), b.ConnectionStringWith(servicebustest.Listener)
	_, err := tryOpen(within(t), "azservicebus:///rights", listens, nil)
	if !errors.Is(err, navvy.ErrDenied) || !strings.Contains(err.Error(), "the queue is missing") {
		t.Errorf("make a queue without the right to: %v", err)
	}
	open(t, "azservicebus:///rights", b.ConnectionString(), nil)
	out, in := open(t, "azservicebus:///rights", sends, nil), open(t, "azservicebus:///rights", listens, nil)
	send(t, out, "x")
	if _, err := out.Receive(within(t), 1); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("receive without the right to: %v", err)
	}
	if err := receive(t, in).Ack(within(t)); err != nil {
		t.Error(err)
	}
	if err := in.Send(within(t), queue.Message{}); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("send without the right to: %v", err)
	}
}

// TestRefused has credentials that are wrong, and a host where nobody is.
func TestRefused(t *testing.T) {
	t.Parallel()
	b := servicebustest.Start(t)
	_, err := tryOpen(within(t), "azservicebus:///refused", b.ConnectionStringWith("Root;SharedAccessKey=c2VjcmV0"), nil)
	if !errors.Is(err, navvy.ErrDenied) || strings.Contains(err.Error(), "c2VjcmV0") || !strings.Contains(err.Error(), "connection string") {
		t.Errorf("a wrong key: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{nobody, "nowhere.invalid"} {
		_, err = tryOpen(within(t), "azservicebus:///refused", strings.ReplaceAll(b.ConnectionString(), b.Address(), host), nil)
		if !errors.Is(err, navvy.ErrUnavailable) {
			t.Errorf("nobody at %s: %v", host, err)
		}
	}
}

// TestSilent has a broker that says nothing any more: each call ends with its context.
func TestSilent(t *testing.T) {
	t.Parallel()
	b := servicebustest.Start(t)
	c := dial(t, "azservicebus:///silent", b.ConnectionString(), time.Minute)
	for range 4 {
		if errs := c.Send(within(t), []*driver.Message{{ID: "x"}}); errs != nil {
			t.Fatal(errs)
		}
	}
	var ds []*driver.Delivery
	for len(ds) < 4 {
		more, err := c.Receive(within(t), 4)
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, more...)
	}
	b.Freeze(t)
	defer b.Thaw(t)
	cause := errors.New("enough")
	for what, call := range map[string]func(context.Context) []error{
		"send":  func(ctx context.Context) []error { return c.Send(ctx, []*driver.Message{{ID: "y"}}) },
		"ack":   func(ctx context.Context) []error { return c.Ack(ctx, ds[:1]) },
		"renew": func(ctx context.Context) []error { return c.Renew(ctx, ds[1:2]) },
		"nack":  func(ctx context.Context) []error { return []error{c.Nack(ctx, ds[2], 0)} },
		"dead":  func(ctx context.Context) []error { return []error{c.DeadLetter(ctx, ds[3], "")} },
	} {
		ctx, cancel := context.WithTimeoutCause(within(t), 200*time.Millisecond, cause)
		if errs := call(ctx); len(errs) != 1 || !errors.Is(errs[0], cause) {
			t.Errorf("%s: %v", what, errs)
		}
		cancel()
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// exchange sends what it is told, and prints what it receives and completes.
const exchange = `
const { ServiceBusClient } = require("@azure/service-bus");
(async () => {
	const client = new ServiceBusClient(process.env.CONNECTION);
	const sender = client.createSender("exchange"), receiver = client.createReceiver("answers");
	const bodies = JSON.parse(process.argv[1]), got = [];
	for (const text of bodies) await sender.sendMessages({ body: Buffer.from(text), messageId: "js-" + text.length, correlationId: "of-" + text.length });
	while (got.length < bodies.length) {
		for (const m of await receiver.receiveMessages(bodies.length, { maxWaitTimeInMs: 30000 })) {
			got.push([m.messageId, m.correlationId, m.body.toString()]);
			await receiver.completeMessage(m);
		}
	}
	await client.close();
	console.log(JSON.stringify(got));
})().catch(e => { console.error(e.message); process.exit(1); });
`

// TestNode exchanges messages with Microsoft's client for JavaScript.
func TestNode(t *testing.T) {
	t.Parallel()
	b := servicebustest.Start(t)
	requests := open(t, "azservicebus:///exchange", b.ConnectionString(), nil)
	answers := open(t, "azservicebus:///answers", b.ConnectionString(), nil)
	bodies := []string{"plain", "  a\r\nb\t", "навви 掘 🚧"}
	for i, body := range bodies {
		if err := answers.Send(within(t), queue.Message{ID: fmt.Sprint("go-", i), Correlation: "to", Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := json.Marshal(bodies)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t), "node", "-e", exchange, string(list))
	cmd.Env = append(cmd.Environ(), "CONNECTION="+b.ConnectionString(), "NODE_PATH="+servicebustest.Modules(t))
	out, err := cmd.Output()
	if err != nil {
		failed, _ := errors.AsType[*exec.ExitError](err)
		t.Fatalf("node: %v: %s", err, failed.Stderr)
	}
	var got [][3]string
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	for i, body := range bodies {
		if len(got) <= i || got[i] != [3]string{fmt.Sprint("go-", i), "to", body} {
			t.Errorf("node received %q, want %q", got, bodies)
			break
		}
		if l := receive(t, requests); string(drivertest.Body(t, l)) != body || !strings.HasPrefix(l.ID(), "js-") || !strings.HasPrefix(l.Correlation(), "of-") {
			t.Errorf("node sent %q, received message %q for %q: %q", body, l.ID(), l.Correlation(), drivertest.Body(t, l))
		}
	}
}
