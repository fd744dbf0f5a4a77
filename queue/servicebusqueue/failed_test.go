package servicebusqueue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// answered is an answer to a request as the SDK gives it, in a type of its own.
type answered int

func (a answered) Error() string { return fmt.Sprintf("rpc: failed, status code %d", a) }
func (a answered) RPCCode() int  { return int(a) }

// TestFailed has answers that the stand-in never gives.
func TestFailed(t *testing.T) {
	t.Parallel()
	s := &settings{name: "requests"}
	said := func(condition amqp.ErrCond) error {
		return fmt.Errorf("wrapped: %w", &amqp.LinkError{RemoteErr: &amqp.Error{Condition: condition, Description: "because"}})
	}
	for _, c := range []struct {
		err, want error
	}{
		{said("com.microsoft:server-busy"), navvy.ErrExhausted},
		{said("com.microsoft:timeout"), navvy.ErrExhausted},
		{said("amqp:resource-limit-exceeded"), navvy.ErrExhausted},
		{said("com.microsoft:message-lock-lost"), navvy.ErrLeaseLost},
		{said("com.microsoft:entity-disabled"), navvy.ErrConflict},
		{said("amqp:not-allowed"), navvy.ErrConflict},
		{said("amqp:not-found"), navvy.ErrNotFound},
		{said("amqp:unauthorized-access"), navvy.ErrDenied},
		{said("amqp:link:message-size-exceeded"), navvy.ErrInvalid},
		{said("amqp:link:detach-forced"), navvy.ErrUnavailable},
		{said("amqp:connection:forced"), navvy.ErrUnavailable},
		{said("amqp:internal-error"), navvy.ErrUnavailable},
		{answered(http.StatusGone), navvy.ErrLeaseLost},
		{answered(http.StatusNotFound), navvy.ErrNotFound},
		{answered(http.StatusUnauthorized), navvy.ErrDenied},
		{answered(http.StatusServiceUnavailable), navvy.ErrExhausted},
		{answered(http.StatusInternalServerError), navvy.ErrUnavailable},
		{answered(http.StatusBadRequest), navvy.ErrInvalid},
		{&azcore.ResponseError{StatusCode: http.StatusForbidden}, navvy.ErrDenied},
		{&azcore.ResponseError{StatusCode: http.StatusConflict}, navvy.ErrConflict},
		{&azcore.ResponseError{StatusCode: http.StatusTooManyRequests}, navvy.ErrExhausted},
		{&azcore.ResponseError{StatusCode: http.StatusBadGateway}, navvy.ErrUnavailable},
		{&azcore.ResponseError{StatusCode: http.StatusBadRequest}, navvy.ErrInvalid},
		{azservicebus.ErrMessageTooLarge, navvy.ErrInvalid},
		{&amqp.ConnError{}, navvy.ErrUnavailable},
		{io.EOF, navvy.ErrUnavailable},
	} {
		if err := s.failed(t.Context(), "try", c.err); !errors.Is(err, c.want) || !strings.Contains(err.Error(), "requests: try") {
			t.Errorf("%v: %v, want %v", c.err, err, c.want)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if err := s.failed(ctx, "try", ctx.Err()); !errors.Is(err, cause) || errors.Is(err, navvy.ErrUnavailable) {
		t.Errorf("a call that was ended: %v", err)
	}
	if err := s.failed(ctx, "try", said("com.microsoft:message-lock-lost")); !errors.Is(err, navvy.ErrLeaseLost) {
		t.Errorf("an answer that came at the end: %v", err)
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	const whole = "Endpoint=sb://mine.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=c2VjcmV0"
	const only = whole + ";EntityPath=orders"
	for _, c := range []struct {
		url, connection, want string
	}{
		{"azservicebus://mine/requests", whole, ""},
		{"azservicebus://MINE.servicebus.windows.net/requests", whole, ""},
		{"azservicebus:///requests", whole, ""},
		{"azservicebus:///Requests.v2/in_1", whole, ""},
		{"azservicebus:///requests/$deadletterqueue", whole, ""},
		{"azservicebus:///orders", only, ""},
		{"azservicebus://mine/requests", "", ""},
		{"azservicebus://mine.servicebus.chinacloudapi.cn/requests", "", ""},
		{"azservicebus:///" + strings.Repeat("a", 260), whole, ""},
		{"azservicebus:///" + strings.Repeat("a", 261), whole, "no name of a queue"},
		{"azservicebus:///-requests", whole, "no name of a queue"},
		{"azservicebus:///requests/", whole, "no name of a queue"},
		{"azservicebus:///re$quests", whole, "no name of a queue"},
		{"azservicebus:///$DeadLetterQueue", whole, "no name of a queue"},
		{"azservicebus://mine", whole, "name of the queue is missing"},
		{"azservicebus:///requests", "", "namespace is missing"},
		{"azservicebus://other/requests", whole, "is that of the namespace mine.servicebus.windows.net"},
		{"azservicebus:///requests", only, "is that of the queue orders alone"},
		{"azservicebus://me:secret@mine/requests", whole, "do not belong into the URL"},
		{"azservicebus://mine/requests?lock=5s", whole, "has none"},
		{"azservicebus:///requests", "secret", "cannot be read"},
		{"azservicebus:///requests", "Endpoint=sb://mine/;SharedAccessKeyName=secret", "cannot be read"},
		{"azservicebus:///requests", "Endpoint=sb://mine/;UseDevelopmentEmulator=secret;SharedAccessKeyName=a;SharedAccessKey=b", "cannot be read"},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Driver(&Options{ConnectionString: c.connection})(u, &driver.Options{Lease: time.Minute})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.url, err)
		case c.want != "" && (!errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret")):
			t.Errorf("%s: %v, want %q", c.url, err, c.want)
		}
	}
}

// TestUntil has clocks that are not the broker's.
func TestUntil(t *testing.T) {
	t.Parallel()
	for ahead, want := range map[time.Duration]time.Duration{
		30 * time.Second: 30 * time.Second, time.Hour: maxLock, -time.Hour: time.Second, 0: time.Second,
	} {
		end := time.Now().Add(ahead)
		got := time.Until(until(&azservicebus.ReceivedMessage{LockedUntil: &end}))
		if got > want || got < want*9/10 {
			t.Errorf("a lock that ends in %s by the broker's clock ends in %s, want a little less than %s", ahead, got, want)
		}
	}
}

// TestReason has the reasons that Service Bus gives itself.
func TestReason(t *testing.T) {
	t.Parallel()
	why, more := "MaxDeliveryCountExceeded", "10 times"
	if got := reason(&azservicebus.ReceivedMessage{DeadLetterReason: &why, DeadLetterErrorDescription: &more}); got != why+": "+more {
		t.Error(got)
	}
}

// asleep is an identity that never answers.
type asleep struct{}

func (asleep) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	<-ctx.Done()
	return azcore.AccessToken{}, ctx.Err()
}

// TestBounded ends the connection of an identity that never answers, which the SDK asks
// without bounds.
func TestBounded(t *testing.T) {
	t.Parallel()
	life, cut := context.WithCancel(t.Context())
	cut()
	if _, err := (bounded{asleep{}, life}).GetToken(context.Background(), policy.TokenRequestOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// FuzzURL reads URLs and connection strings: what is wrong with them is told as such, and
// without the key.
func FuzzURL(f *testing.F) {
	f.Add("azservicebus://mine/requests", "Endpoint=sb://mine/;SharedAccessKeyName=Root;SharedAccessKey=")
	f.Add("azservicebus:///a/$DeadLetterQueue?x=1", "Endpoint=sb://h:1;UseDevelopmentEmulator=true;EntityPath=a;SharedAccessSignature=")
	f.Fuzz(func(t *testing.T, raw, connection string) {
		const key = "0123456789abcdef0123"
		u, err := url.Parse(raw)
		if err != nil || strings.Contains(raw+connection, key) {
			return
		}
		dial, err := Driver(&Options{ConnectionString: connection + key})(u, &driver.Options{Lease: time.Minute})
		if (dial == nil) != (err != nil) || err != nil && !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%q, %q: %v", raw, connection, err)
		}
		if err != nil && strings.Contains(err.Error(), key) && !strings.Contains(strings.ToLower(connection), "entitypath=") && !strings.Contains(strings.ToLower(connection), "endpoint=") {
			t.Errorf("the key is told: %v", err)
		}
	})
}
