package queue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
)

// long is a body that does not fit into the small messages of these tests.
var long = bytes.Repeat([]byte("long\xff"), 1000)

// shelved runs a test with a broker of small messages, and a shelf for large bodies.
func shelved(t *testing.T, f *faults, shelf *drivertest.Shelf, test func(*testing.T, *queue.Queue)) {
	t.Helper()
	t.Parallel()
	f.small = 1000
	synctest.Test(t, func(t *testing.T) {
		q := openShelved(t, f, shelf)
		test(t, q)
		if err := q.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func openShelved(t *testing.T, f *faults, shelf *drivertest.Shelf) *queue.Queue {
	t.Helper()
	var o queue.Options
	if shelf != nil {
		o.Claims = shelf
	}
	q, err := queue.Open(t.Context(), "mem://q?envelope=json", map[string]driver.Driver{"mem": f.driver}, &o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func sendLong(t *testing.T, q *queue.Queue) {
	t.Helper()
	if err := q.Send(t.Context(), queue.Message{ID: "long", Body: long}); err != nil {
		t.Fatal(err)
	}
}

// A body is there before its message is, and as long as the message is.
func TestClaimOrder(t *testing.T) {
	shelf := &drivertest.Shelf{}
	f := &faults{}
	var acked bool
	f.send = func(ms []*driver.Message) []error {
		if len(shelf.Names()) != 1 {
			t.Error("the message is sent, and there is no body")
		}
		if bytes.Contains(ms[0].Body, []byte("long\xff")) || len(ms[0].Body) > f.small {
			t.Errorf("the broker gets %q", ms[0].Body)
		}
		return nil
	}
	f.acked = func() {
		acked = true
		if len(shelf.Names()) != 1 {
			t.Error("the body is removed before the message is acknowledged")
		}
	}
	shelved(t, f, shelf, func(t *testing.T, q *queue.Queue) {
		sendLong(t, q)
		l := one(t, q)
		if got := drivertest.Body(t, l); !bytes.Equal(got, long) || l.Claim() != shelf.Names()[0] {
			t.Errorf("%d bytes came as %d", len(long), len(got))
		}
		if err := l.Ack(t.Context()); err != nil || !acked {
			t.Error(err)
		}
		if names := shelf.Names(); len(names) != 0 {
			t.Errorf("%q are left", names)
		}
	})
}

// A message that is sent again, since nobody knows whether the first one has arrived, has
// a body of its own: whoever acknowledges the one leaves that of the other.
func TestClaimTwice(t *testing.T) {
	shelf := &drivertest.Shelf{}
	times := 0
	f := &faults{sent: func(ms []*driver.Message) []error {
		if times++; times > 1 {
			return nil
		}
		return driver.Each(len(ms), errAway) // what it had done is not told any more
	}}
	shelved(t, f, shelf, func(t *testing.T, q *queue.Queue) {
		sendLong(t, q)
		if len(shelf.Names()) != 2 {
			t.Errorf("bodies: %q", shelf.Names())
		}
		for range 2 {
			l := one(t, q)
			if got := drivertest.Body(t, l); !bytes.Equal(got, long) || l.ID() != "long" {
				t.Errorf("%s: %d bytes", l.ID(), len(got))
			}
			if err := l.Ack(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if names := shelf.Names(); len(names) != 0 {
			t.Errorf("%q are left", names)
		}
	})
}

// While the place is away, or full, who sends and who receives wait; so does a message that
// goes a second time, and the broker's connection is not blamed.
func TestClaimsAway(t *testing.T) {
	away := map[string]int{}
	shelf := &drivertest.Shelf{Fail: func(verb, _ string) error {
		if away[verb]++; away[verb]%4 != 0 {
			return map[bool]error{true: errAway, false: errThrottled}[away[verb]%2 == 0]
		}
		return nil
	}}
	times := 0
	f := &faults{sent: func(ms []*driver.Message) []error {
		if times++; times > 1 {
			return nil
		}
		return driver.Each(len(ms), errAway)
	}}
	shelved(t, f, shelf, func(t *testing.T, q *queue.Queue) {
		sendLong(t, q)
		for range 2 {
			l := one(t, q)
			if got := drivertest.Body(t, l); !bytes.Equal(got, long) {
				t.Errorf("%d bytes", len(got))
			}
			if err := l.Ack(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if len(shelf.Names()) != 0 || f.dials.Load() != 2 || away["put"] != 8 || away["get"] != 8 || away["remove"] != 8 {
			t.Errorf("left %q, %d dials, tries %v", shelf.Names(), f.dials.Load(), away)
		}
	})
}

// Who waits for the place ends with his context, or with the queue; nothing is sent then.
func TestClaimsAwayEnds(t *testing.T) {
	shelf := &drivertest.Shelf{Fail: func(string, string) error { return errAway }}
	shelved(t, &faults{}, shelf, func(t *testing.T, q *queue.Queue) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := q.Send(ctx, queue.Message{Body: long}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		ended := make(chan error)
		go func() { ended <- q.Send(context.Background(), queue.Message{Body: long}) }()
		synctest.Wait()
		if err := q.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, navvy.ErrClosed) {
			t.Error(err)
		}
	})
}

// A claim that cannot be met is an error that says why, and never a body.
func TestClaimUnmet(t *testing.T) {
	shelf := &drivertest.Shelf{}
	f := &faults{}
	shelved(t, f, shelf, func(t *testing.T, q *queue.Queue) {
		sendLong(t, q)
		name := shelf.Names()[0]
		spoiled := &drivertest.Shelf{}
		other := bytes.Clone(long)
		other[7]++
		longer := &drivertest.Shelf{}
		for s, body := range map[*drivertest.Shelf][]byte{spoiled: other, longer: append(bytes.Clone(long), 'x')} {
			if err := s.Put(t.Context(), name, body); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			shelf *drivertest.Shelf
			want  error
			says  string
		}{
			{nil, navvy.ErrUnsupported, `it lies in "a shelf", and no place for large bodies is given here`},
			{&drivertest.Shelf{Name: "a wall"}, navvy.ErrUnsupported, `and is not in a wall, which is given here`},
			{&drivertest.Shelf{}, navvy.ErrNotFound, `is not in a shelf any more`},
			{spoiled, navvy.ErrCorrupt, "is not what was sent"},
			{longer, navvy.ErrCorrupt, "5001 bytes"},
			{&drivertest.Shelf{Fail: func(string, string) error { return navvy.ErrDenied }}, navvy.ErrDenied, "a shelf"},
		} {
			r := openShelved(t, f, c.shelf)
			l := one(t, r)
			body, err := l.Body(t.Context())
			if body != nil || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%d bytes, %v; want %s", len(body), err, c.says)
			}
			if err := l.Nack(t.Context(), 0); err != nil {
				t.Error(err)
			}
			if err := r.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if got := drivertest.Body(t, one(t, q)); !bytes.Equal(got, long) {
			t.Errorf("%d bytes", len(got))
		}
	})
}

var errNamed = errors.New("a body is asked for by name")

// Claims are foreign input.
func TestClaimForged(t *testing.T) {
	const sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	shelf := &drivertest.Shelf{Fail: func(verb, name string) error { return fmt.Errorf("%s %s: %w", verb, name, errNamed) }}
	f := &faults{}
	shelved(t, f, shelf, func(t *testing.T, q *queue.Queue) {
		f.small = 1 << 20
		plain, err := queue.Open(t.Context(), "mem://q", map[string]driver.Driver{"mem": f.driver}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			text string
			want error
		}{
			{`{"navvy":1,"id":"a","claim":{}}`, navvy.ErrInvalid},
			{`{"navvy":1,"id":"a","claim":{"name":"../../../../etc/passwd","size":0,"sha256":"` + sum + `"}}`, navvy.ErrInvalid},
			{`{"navvy":1,"id":"a","claim":{"name":"/0123456789abcdef","size":0,"sha256":"` + sum + `"}}`, navvy.ErrInvalid},
			{`{"navvy":1,"id":"a","claim":{"name":"0123456789abcdef/x","size":0,"sha256":"` + sum + `"}}`, navvy.ErrInvalid},
			{`{"navvy":1,"id":"a","claim":{"name":"0123456789abcdef\n","size":0,"sha256":"` + sum + `"}}`, navvy.ErrInvalid},
			{`{"navvy":1,"id":"a","claim":{"name":"0123456789abcdef","size":-1,"sha256":"` + sum + `"}}`, navvy.ErrInvalid},
			{`{"navvy":1,"id":"a","claim":{"name":"0123456789abcdef","size":67108865,"sha256":"` + sum + `"}}`, navvy.ErrInvalid},
			{`{"navvy":1,"id":"a","claim":{"name":"0123456789abcdef","size":0,"sha256":"e3"}}`, navvy.ErrInvalid},
			{`{"navvy":1,"id":"a","body":"x","claim":{"name":"0123456789abcdef","size":0,"sha256":"` + sum + `"}}`, navvy.ErrInvalid},
			{`{"navvy":2,"id":"a","sent":"2026-01-02T03:04:05Z","other":"x"}`, navvy.ErrUnsupported},
			{`{"navvy":1,"id":"a","claim":{"name":"0123456789abcdef","size":0,"sha256":"` + strings.ToUpper(sum) + `"}}`, errNamed},
			{`{"navvy":2,"id":"a"}`, navvy.ErrUnsupported},
			{`{"navvy":2,"id":"a","body":"hi"}`, navvy.ErrUnsupported},
			{`{"navvy":2,"id":"a","sent":7,"body":{"of":"another kind"}}`, navvy.ErrUnsupported},
			{`{"navvy":1.5,"id":"a","body":"hi"}`, navvy.ErrUnsupported},
			{`{"navvy":1,"id":"a"}`, navvy.ErrInvalid},
			{`{"navvy":1,"id":"a","claim":null}`, navvy.ErrInvalid},
			{`{"navvy":1,"id":"a","claim":"x"}`, navvy.ErrInvalid},
			{`{"navvy":1,"id":"a","bytes":"!!"}`, navvy.ErrInvalid},
			{`{"navvy":1,"id":"a","bytes":"eA==","body":"x"}`, navvy.ErrInvalid},
			{`{"navvy":1,"id":"a","body":7}`, navvy.ErrInvalid},
			{`{"navvy":1,"id":"a","sent":"today","body":"x"}`, navvy.ErrInvalid},
			// Others have objects with such names, too.
			{`{"navvy":1,"body":"x"}`, nil},
			{`{"navvy":1,"id":"","body":"x"}`, nil},
			{`{"navvy":1,"id":7,"body":"x"}`, nil},
			{`{"navvy":0,"id":"a","body":"x"}`, nil},
			{`{"navvy":"1","id":"a","body":"x"}`, nil},
			{`{"id":"a","body":"x"}`, nil},
		} {
			if err := plain.Send(t.Context(), queue.Message{Body: []byte(c.text)}); err != nil {
				t.Fatal(err)
			}
			l := one(t, q)
			body, err := l.Body(t.Context())
			if !errors.Is(err, c.want) || c.want == nil && string(body) != c.text || c.want != nil && body != nil {
				t.Errorf("%s: %q, %v", c.text, body, err)
			}
			if err := l.Ack(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := plain.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Where nobody confirms an acknowledgement a body stays until the connection has lasted, or
// was closed well; it stays for ever if the connection broke.
func TestClaimHeld(t *testing.T) {
	shelf := &drivertest.Shelf{}
	f := &faults{held: true}
	shelved(t, f, shelf, func(t *testing.T, q *queue.Queue) {
		for i, left := range []int{0, 1} {
			sendLong(t, q)
			if err := one(t, q).Ack(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n := len(shelf.Names()); n != 1 {
				t.Errorf("%d: %d bodies, and nobody knows whether their messages are gone", i, n)
			}
			if left == 1 { // the connection breaks
				f.Kill()
				go f.Restart()
				if err := q.Send(t.Context(), queue.Message{Body: []byte("notices")}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Minute) //nolint:forbidigo // inside a synctest bubble
			if n := len(shelf.Names()); n != left {
				t.Errorf("%d: %d bodies are left, want %d", i, n, left)
			}
		}
		second := openShelved(t, f, shelf)
		sendLong(t, second)
		for {
			l := one(t, second)
			if err := l.Ack(t.Context()); err != nil {
				t.Fatal(err)
			}
			if l.Claim() != "" {
				break
			}
		}
		if err := second.Close(t.Context()); err != nil || len(shelf.Names()) != 1 {
			t.Errorf("%v; left: %q", err, shelf.Names())
		}
	})
}

// A connection that is lost when it is closed has not ended well, and the body stays; that
// is no error of who closes.
func TestClaimLostAtTheEnd(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			shelf := &drivertest.Shelf{}
			f := &faults{held: true}
			if lost {
				f.closed = errAway
			}
			left := map[bool]int{true: 1}[lost]
			shelved(t, f, shelf, func(t *testing.T, q *queue.Queue) {
				sendLong(t, q)
				if err := one(t, q).Ack(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := q.Close(t.Context()); err != nil || len(shelf.Names()) != left {
					t.Errorf("%v; bodies: %q, want %d", err, shelf.Names(), left)
				}
			})
		})
	}
}

// What does not go without a place or an envelope says so, and what would help.
func TestClaimsRefused(t *testing.T) {
	f := &faults{}
	shelved(t, f, nil, func(t *testing.T, q *queue.Queue) {
		drivers := map[string]driver.Driver{"mem": f.driver}
		plain, err := queue.Open(t.Context(), "mem://q", drivers, nil)
		if err != nil {
			t.Fatal(err)
		}
		large, err := queue.Open(t.Context(), "mem://q?envelope=json", drivers, &queue.Options{Claims: &drivertest.Shelf{}, ClaimOver: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			q    *queue.Queue
			body []byte
			says string
		}{
			{plain, long, "a body of 5000 bytes, and this broker takes 1000: put ?envelope=json to the URL, and give a place for large bodies (--claims PLACE)"},
			{q, long, "a body of 5000 bytes, and this broker takes 1000 with the envelope: give a place for large bodies (--claims PLACE)"},
			{large, make([]byte, queue.MaxClaim+1), "a body of 67108865 bytes, and this queue takes 67108864"},
		} {
			if err := c.q.Send(t.Context(), queue.Message{Body: c.body}); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %s", err, c.says)
			}
		}
		if err := large.Send(t.Context(), queue.Message{ID: strings.Repeat("x", 2000), Body: long}); !errors.Is(err, navvy.ErrInvalid) {
			t.Error(err)
		}
		for _, q := range []*queue.Queue{plain, large} {
			if err := q.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		for url, o := range map[string]*queue.Options{
			"mem://q": {Claims: &drivertest.Shelf{}}, "mem://q?envelope=json": {ClaimOver: 1},
		} {
			if _, err := queue.Open(t.Context(), url, drivers, o); !errors.Is(err, navvy.ErrInvalid) {
				t.Errorf("%s: %v", url, err)
			}
		}
	})
}

// isOpaque tells whether a name is a word that leads nowhere.
func isOpaque(name string) bool {
	return len(name) >= 16 && len(name) <= 128 && strings.Trim(name, "-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// FuzzClaim delivers what others have sent: whatever it is, only an opaque name is asked
// for, and a body is what was sent or an error.
func FuzzClaim(f *testing.F) {
	valid, err := json.Marshal(map[string]any{"navvy": 1, "id": "a", "claim": map[string]any{
		"name": "0123456789ABCDEF", "size": 1, "sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", "place": "s3://b/f",
	}})
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{string(valid), `{"navvy":1,"id":"a","claim":{}}`, `{"navvy":2,"id":"a","sent":"2026-01-02T03:04:05Z"}`, `{"navvy":1,"claim":{"name":"../x"},"body":""}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(deliverForeign)
}

func deliverForeign(t *testing.T, text []byte) {
	shelf := &drivertest.Shelf{Fail: func(verb, name string) error {
		if verb == "put" || !isOpaque(name) {
			t.Errorf("%s %q", verb, name)
		}
		return nil
	}}
	broker := &faults{}
	wrapped := openShelved(t, broker, shelf)
	plain, err := queue.Open(t.Context(), "mem://q", map[string]driver.Driver{"mem": broker.driver}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.Send(t.Context(), queue.Message{Body: text}); err != nil {
		t.Fatal(err)
	}
	l := one(t, wrapped)
	if body, err := l.Body(t.Context()); err != nil && body != nil || err == nil && l.Claim() != "" {
		t.Errorf("%q gives %q, %v", text, body, err)
	}
	if err := l.Ack(t.Context()); err != nil {
		t.Error(err)
	}
	for _, q := range []*queue.Queue{wrapped, plain} {
		if err := q.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
