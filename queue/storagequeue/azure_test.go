package storagequeue_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue/v2/sas"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/storagequeue"
	"github.com/navvy-run/navvy/queue/storagequeue/azuritetest"
)

// open opens a queue, which is closed with the test.
func open(t *testing.T, url, connection string, o *queue.Options) *queue.Queue {
	t.Helper()
	q, err := tryOpen(t.Context(), url, connection, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return q
}

func tryOpen(ctx context.Context, url, connection string, o *queue.Options) (*queue.Queue, error) {
	azure := storagequeue.Driver(&storagequeue.Options{ConnectionString: connection})
	return queue.Open(ctx, url, map[string]driver.Driver{"azqueue": azure}, o)
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func receive(t *testing.T, q *queue.Queue) *queue.Lease {
	t.Helper()
	leases, err := q.Receive(within(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	return leases[0]
}

// TestSent looks at what was sent with the SDK: it is the body and nothing else, can be
// had at once, however long leases are, and does not expire.
func TestSent(t *testing.T) {
	t.Parallel()
	a := azuritetest.Start(t)
	plain := open(t, "azqueue:///sent", a.ConnectionString(), &queue.Options{Lease: time.Hour})
	coded := open(t, "azqueue:///sent?encoding=base64", a.ConnectionString(), &queue.Options{Lease: time.Hour})
	bare := client(t, a, "sent")
	const body = "<b>\n grüße & \"more\" </b> "
	for want, q := range map[string]*queue.Queue{body: plain, base64.StdEncoding.EncodeToString([]byte(body)): coded} {
		if err := q.Send(within(t), queue.Message{Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
		answer, err := bare.DequeueMessage(within(t), nil)
		if err != nil || len(answer.Messages) != 1 {
			t.Fatalf("%d messages, %v", len(answer.Messages), err)
		}
		m := answer.Messages[0]
		if *m.MessageText != want {
			t.Errorf("%q came as %q", want, *m.MessageText)
		}
		if left := time.Until(*m.ExpirationTime); left < 365*24*time.Hour {
			t.Errorf("it expires in %s", left)
		}
	}
}

// TestForeign receives what the SDK sends without any settings, and gives it back with a
// text that has not changed.
func TestForeign(t *testing.T) {
	t.Parallel()
	a := azuritetest.Start(t)
	q := open(t, "azqueue:///foreign?encoding=base64&interval=50ms", a.ConnectionString(), nil)
	bare := client(t, a, "foreign")
	for _, c := range [][2]string{{"\" plain text, no base64 \"", "\" plain text, no base64 \""}, {"aGVsbG8=", "hello"}} {
		if _, err := bare.EnqueueMessage(within(t), c[0], nil); err != nil {
			t.Fatal(err)
		}
		l := receive(t, q)
		if string(drivertest.Body(t, l)) != c[1] {
			t.Errorf("%q came as %q", c[0], drivertest.Body(t, l))
		}
		if err := l.Nack(within(t), 0); err != nil {
			t.Fatal(err)
		}
		answer, err := bare.DequeueMessage(within(t), nil)
		if err != nil || len(answer.Messages) != 1 {
			t.Fatalf("%d messages, %v", len(answer.Messages), err)
		}
		if m := answer.Messages[0]; *m.MessageText != c[0] || *m.DequeueCount != 2 {
			t.Errorf("%q was given back as %q, attempt %d", c[0], *m.MessageText, *m.DequeueCount)
		}
	}
}

// TestBase64 carries any bytes, up to the service's bound for their text.
func TestBase64(t *testing.T) {
	t.Parallel()
	a := azuritetest.Start(t)
	q := open(t, "azqueue:///coded?encoding=base64&interval=50ms", a.ConnectionString(), nil)
	if c := q.Capabilities(); !c.Binary || c.MaxBody != 48<<10 {
		t.Errorf("%+v", c)
	}
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	longest := bytes.Repeat(every, 48<<10/len(every))
	for _, body := range [][]byte{nil, every, []byte("a\r\nb"), longest} {
		if err := q.Send(within(t), queue.Message{Body: body}); err != nil {
			t.Fatal(err)
		}
		l := receive(t, q)
		if !bytes.Equal(drivertest.Body(t, l), body) {
			t.Errorf("%d bytes came as %d others", len(body), len(drivertest.Body(t, l)))
		}
		if err := l.DeadLetter(within(t), "not kept"); err != nil {
			t.Fatal(err)
		}
		dead := receive(t, open(t, "azqueue:///coded-dead?encoding=base64&interval=50ms", a.ConnectionString(), nil))
		if !bytes.Equal(drivertest.Body(t, dead), body) {
			t.Errorf("%d bytes are %d others among the dead letters", len(body), len(drivertest.Body(t, dead)))
		}
		if err := dead.Ack(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Send(within(t), queue.Message{Body: append(longest, 'x')}); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("one byte too many: %v", err)
	}
}

// exchange sends what it is told, and prints what it receives and deletes.
const exchange = `
const { QueueClient } = require("@azure/storage-queue");
(async () => {
	const q = new QueueClient(process.env.CONNECTION, "exchange");
	for (const text of JSON.parse(process.argv[1])) await q.sendMessage(text);
	const got = [];
	for (const m of (await (new QueueClient(process.env.CONNECTION, "answers")).receiveMessages({ numberOfMessages: 32 })).receivedMessageItems) got.push(m.messageText);
	console.log(JSON.stringify(got));
})().catch(e => { console.error(e.message); process.exit(1); });
`

// TestNode exchanges messages with Microsoft's client for JavaScript.
func TestNode(t *testing.T) {
	t.Parallel()
	a := azuritetest.Start(t)
	requests := open(t, "azqueue:///exchange", a.ConnectionString(), nil)
	answers := open(t, "azqueue:///answers", a.ConnectionString(), nil)
	bodies := []string{"", "  ", "a\nb\tc ", `<a href="x">&amp;]]></a>`, "навви 掘 🚧"}
	for _, body := range bodies {
		if err := answers.Send(within(t), queue.Message{Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := json.Marshal(bodies)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t), "node", "-e", exchange, string(list))
	cmd.Env = append(cmd.Environ(), "CONNECTION="+a.ConnectionString(), "NODE_PATH="+azuritetest.Modules(t))
	out, err := cmd.Output()
	if err != nil {
		failed, _ := errors.AsType[*exec.ExitError](err)
		t.Fatalf("node: %v: %s", err, failed.Stderr)
	}
	var got []string
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	same(t, "node received", got, bodies)
	sent := make([]string, len(bodies))
	for i, body := range bodies {
		sent[i] = strings.ReplaceAll(body, "\n", "") // which that client drops
	}
	got = nil
	for len(got) < len(sent) {
		got = append(got, string(drivertest.Body(t, receive(t, requests))))
	}
	same(t, "node sent", got, sent)
}

// same compares what was received with what was sent, in any order.
func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	count := map[string]int{}
	for _, body := range want {
		count[body]++
	}
	for _, body := range got {
		count[body]--
	}
	for body, n := range count {
		if n != 0 {
			t.Errorf("%s: %q: %d too few", what, body, n)
		}
	}
}

// TestRefused has credentials that are wrong, and a host where nobody is.
func TestRefused(t *testing.T) {
	t.Parallel()
	a := azuritetest.Start(t)
	_, err := tryOpen(within(t), "azqueue:///refused", a.ConnectionStringWith("c2VjcmV0"), nil)
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
	begun := time.Now()
	for _, host := range []string{nobody, "nowhere.invalid"} {
		connection := strings.ReplaceAll(a.ConnectionString(), a.Endpoint(), "http://"+host+"/"+azuritetest.Account)
		_, err = tryOpen(within(t), "azqueue:///refused", connection, nil)
		if !errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(err.Error(), host) {
			t.Errorf("nobody at %s: %v", host, err)
		}
	}
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("it took %s to tell", took)
	}
}

// TestExisting uses a queue of somebody else's as it is, metadata and all.
func TestExisting(t *testing.T) {
	t.Parallel()
	a := azuritetest.Start(t)
	bare := client(t, a, "existing")
	owner := "somebody"
	if _, err := bare.Create(within(t), &azqueue.CreateOptions{Metadata: map[string]*string{"owner": &owner}}); err != nil {
		t.Fatal(err)
	}
	if _, err := bare.EnqueueMessage(within(t), "there before", nil); err != nil {
		t.Fatal(err)
	}
	if l := receive(t, open(t, "azqueue:///existing", a.ConnectionString(), nil)); string(drivertest.Body(t, l)) != "there before" {
		t.Errorf("received %q", drivertest.Body(t, l))
	}
}

// TestDeadOfDead wants dead letters of dead letters.
func TestDeadOfDead(t *testing.T) {
	t.Parallel()
	a := azuritetest.Start(t)
	q := open(t, "azqueue:///orders-dead", a.ConnectionString(), nil)
	if err := q.Send(within(t), queue.Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, q).DeadLetter(within(t), "still bad"); !errors.Is(err, navvy.ErrUnsupported) {
		t.Errorf("dead letters of dead letters: %v", err)
	}
	if _, err := client(t, a, "orders-dead-dead").GetProperties(within(t), nil); err == nil {
		t.Error("there is a queue orders-dead-dead")
	}
}

// TestSignature has the rights of a shared access signature instead of a key; it is in no
// error.
func TestSignature(t *testing.T) {
	t.Parallel()
	a := azuritetest.Start(t)
	key, err := azqueue.NewSharedKeyCredential(azuritetest.Account, azuritetest.Key)
	if err != nil {
		t.Fatal(err)
	}
	all := sas.AccountPermissions{Read: true, Write: true, Add: true, Create: true, Update: true, Process: true, Delete: true}
	parts, err := sas.AccountSignatureValues{
		Protocol: sas.ProtocolHTTPSandHTTP, ExpiryTime: time.Now().UTC().Add(time.Hour), Permissions: all.String(),
		ResourceTypes: (&sas.AccountResourceTypes{Service: true, Container: true, Object: true}).String(),
	}.SignWithSharedKey(key)
	if err != nil {
		t.Fatal(err)
	}
	connection := "QueueEndpoint=" + a.Endpoint() + ";SharedAccessSignature=" + parts.Encode()
	q := open(t, "azqueue:///signed?interval=50ms", connection, nil)
	if err := q.Send(within(t), queue.Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, q).DeadLetter(within(t), "x"); err != nil {
		t.Error(err)
	}
	for _, wrong := range []string{strings.ReplaceAll(connection, "sig=", "sig=x"), strings.ReplaceAll(connection, "127.0.0.1:", "127.0.0.1:9")} {
		_, err := tryOpen(within(t), "azqueue:///signed", wrong, nil)
		if err == nil || strings.Contains(err.Error(), "sig=") {
			t.Errorf("a wrong signature, or nobody there: %v", err)
		}
	}
}
