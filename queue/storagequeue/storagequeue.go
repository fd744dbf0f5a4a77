// Package storagequeue keeps queues in Azure's Storage queues. They are asked over HTTP
// again and again, lend a message for whole seconds, and carry nothing but text; the order
// of messages is not kept. docs/brokers.md says what that means for users.
package storagequeue

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue/v2"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// DeadSuffix is what the name of a queue's dead letters has behind the queue's own.
const DeadSuffix = "-dead"

const (
	maxText     = 64 << 10 // of a message, in bytes of UTF-8
	maxReceive  = 32       // messages of one answer
	maxBatch    = 64
	parallel    = 32 // calls of one batch at once
	maxWait     = 7 * 24 * time.Hour
	callTimeout = 20 * time.Second
	grace       = 2 * time.Second // for the answer to a question that nobody waits for any more

	defaultInterval = 500 * time.Millisecond
	minInterval     = 10 * time.Millisecond
	maxName         = 63
)

// Options are what a URL must not hold, or cannot.
type Options struct {
	// ConnectionString is that of the storage account. Defaults to none: Credential is used.
	ConnectionString string
	// Credential proves who we are where there is no connection string. Defaults to what
	// the Azure SDK finds by itself: a managed identity, on a machine in Azure.
	Credential azcore.TokenCredential
}

// Driver reads URLs of the form azqueue://ACCOUNT/QUEUE. ACCOUNT may be empty with a
// connection string, which names it. The options are interval, how often an empty queue is
// asked, and encoding, text or base64.
func Driver(o *Options) driver.Driver {
	var opts Options
	if o != nil {
		opts = *o
	}
	identity := sync.OnceValues(func() (azcore.TokenCredential, error) {
		if opts.Credential != nil {
			return opts.Credential, nil
		}
		return azidentity.NewDefaultAzureCredential(nil)
	})
	return func(u *url.URL, d *driver.Options) (driver.Dial, error) {
		s, err := read(u, &opts)
		if err != nil {
			return nil, err
		}
		s.lease = max(wholeSeconds(d.Lease), 1)
		s.create, s.identity = d.Create, identity
		if opts.ConnectionString != "" {
			// What is wrong with it is told before anything happens.
			if _, err := azqueue.NewQueueClientFromConnectionString(opts.ConnectionString, s.name, nil); err != nil {
				return nil, fmt.Errorf("storagequeue: the connection string cannot be read: copy it from the access keys of the storage account: %w", navvy.ErrInvalid)
			}
		}
		return s.dial, nil
	}
}

// settings are those of one queue.
type settings struct {
	opts          *Options
	account, name string
	interval      time.Duration
	base64        bool
	lease         int32 // in seconds
	create        bool
	identity      func() (azcore.TokenCredential, error)
}

var (
	accounts = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
	names    = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9])*$`)
)

// read reads a URL.
func read(u *url.URL, opts *Options) (*settings, error) {
	values, err := driver.Query(u, "encoding", "interval")
	if err != nil {
		return nil, err
	}
	name, err := driver.Name(u)
	if err != nil {
		return nil, err
	}
	s := &settings{opts: opts, account: u.Host, name: name, interval: defaultInterval}
	if err = s.checkAccount(u); err == nil {
		err = s.checkName()
	}
	if err == nil {
		err = s.read(values)
	}
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", navvy.ShownURL(u), err)
	}
	return s, nil
}

func invalid(format string, a ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, a...), navvy.ErrInvalid)
}

func (s *settings) checkAccount(u *url.URL) error {
	inString := accountOf(s.opts.ConnectionString)
	switch {
	case u.User != nil:
		return invalid("credentials do not belong into the URL: set the connection string of the storage account")
	case s.account == "" && s.opts.ConnectionString == "":
		return invalid("the storage account is missing: azqueue://ACCOUNT/QUEUE, or set a connection string")
	case s.account != "" && !accounts.MatchString(s.account):
		return invalid("%q is no name of a storage account: 3 to 24 small letters and digits", s.account)
	case s.account != "" && inString != "" && s.account != inString:
		return invalid("the connection string is that of the account %s", inString)
	}
	return nil
}

func (s *settings) checkName() error {
	switch {
	case len(s.name) < 3 || len(s.name) > maxName || !names.MatchString(s.name):
		return invalid("%q is no name of a queue: 3 to %d small letters, digits and single -", s.name, maxName)
	case len(s.name) > maxName-len(DeadSuffix) && !s.dead():
		return invalid("the name of the queue leaves no room for %s, which that of its dead letters has behind it: at most %d characters", DeadSuffix, maxName-len(DeadSuffix))
	}
	return nil
}

// read reads the options.
func (s *settings) read(values url.Values) error {
	switch values.Get("encoding") {
	case "", "text":
	case "base64":
		s.base64 = true
	default:
		return invalid("option encoding: %q: there are text and base64", values.Get("encoding"))
	}
	if text := values.Get("interval"); text != "" {
		interval, err := time.ParseDuration(text)
		if err != nil || interval < minInterval {
			return invalid("option interval: %q: a time of at least %s, as 500ms", text, minInterval)
		}
		s.interval = interval
	}
	return nil
}

// accountOf is the account that a connection string names; empty if it names none.
func accountOf(connection string) string {
	for part := range strings.SplitSeq(connection, ";") {
		if name, ok := strings.CutPrefix(part, "AccountName="); ok {
			return name
		}
	}
	return ""
}

// dead tells whether the queue is one of dead letters, which have none of their own.
func (s *settings) dead() bool { return strings.HasSuffix(s.name, DeadSuffix) }

// wholeSeconds are at least d.
func wholeSeconds(d time.Duration) int32 {
	return int32(min((d+time.Second-1)/time.Second, maxWait/time.Second))
}

func (s *settings) dial(ctx context.Context) (driver.Queue, error) {
	c := &conn{settings: s, idle: make(chan struct{}, 1)}
	c.transport = &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: callTimeout / 2,
		IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 2 * parallel,
	}
	var err error
	if c.client, err = s.client(s.name, c.transport); err == nil && !s.dead() {
		c.dead, err = s.client(s.name+DeadSuffix, c.transport)
	}
	if err != nil {
		return nil, err
	}
	c.life, c.cut = context.WithCancelCause(context.Background())
	if err := c.prepare(ctx); err != nil {
		_ = c.Close() // it has nothing to lose
		return nil, err
	}
	return c, nil
}

// client makes a client of the SDK, which tries nothing twice: package queue does.
func (s *settings) client(name string, transport *http.Transport) (*azqueue.QueueClient, error) {
	o := &azqueue.ClientOptions{ClientOptions: azcore.ClientOptions{
		Retry:     policy.RetryOptions{MaxRetries: -1, TryTimeout: callTimeout},
		Telemetry: policy.TelemetryOptions{Disabled: true},
		Transport: &http.Client{Transport: transport},
	}}
	if s.opts.ConnectionString != "" {
		return azqueue.NewQueueClientFromConnectionString(s.opts.ConnectionString, name, o)
	}
	credential, err := s.identity()
	if err != nil {
		return nil, fmt.Errorf("storagequeue: no credentials for the account %s: set its connection string, or give this machine a managed identity: %w: %w", s.account, err, navvy.ErrDenied)
	}
	return azqueue.NewQueueClient("https://"+s.account+".queue.core.windows.net/"+name, credential, o)
}

// prepare finds the queue, or makes it and that of its dead letters.
func (c *conn) prepare(ctx context.Context) error {
	if !c.create {
		_, err := c.client.GetProperties(ctx, nil)
		return c.failed(ctx, "find the queue", err)
	}
	for _, q := range []*azqueue.QueueClient{c.client, c.dead} {
		if q == nil {
			continue
		}
		// One that is there, with whatever metadata, is used as it is.
		if _, err := q.Create(ctx, nil); err != nil && code(err) != "QueueAlreadyExists" {
			return c.failed(ctx, "make the queue", err)
		}
	}
	return nil
}

// encode makes the text of a message.
func (s *settings) encode(body []byte) string {
	if s.base64 {
		return base64.StdEncoding.EncodeToString(body)
	}
	return string(body)
}

// decode gives the body of a text. One that is no base64 was sent by somebody who does not
// use it, and is as it is.
func (s *settings) decode(text string) []byte {
	if s.base64 {
		if body, err := base64.StdEncoding.DecodeString(text); err == nil {
			return body
		}
	}
	return []byte(text)
}

// code is the service's name for an error; empty if it did not come from there.
func code(err error) string {
	if answer, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return answer.ErrorCode
	}
	return ""
}

// failed says what went wrong, in the words of package navvy. The answers of the service
// are not repeated: they quote requests.
func (s *settings) failed(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	what = "storagequeue: " + s.name + ": " + what
	answer, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return s.unanswered(ctx, what, err)
	}
	what += fmt.Sprintf(": the service answers %d %s", answer.StatusCode, answer.ErrorCode)
	switch {
	case answer.ErrorCode == "MessageNotFound" || answer.ErrorCode == "PopReceiptMismatch":
		return fmt.Errorf("%s: the message is no longer leased to this receiver: %w", what, navvy.ErrLeaseLost)
	case answer.ErrorCode == "QueueNotFound":
		return fmt.Errorf("%s: %w", what, navvy.ErrNotFound)
	case answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden || answer.ErrorCode == "InvalidAuthenticationInfo":
		return fmt.Errorf("%s: check the connection string, or the rights of the identity, and this machine's clock: %w", what, navvy.ErrDenied)
	case answer.ErrorCode == "ServerBusy" || answer.ErrorCode == "OperationTimedOut" || answer.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("%s: %w", what, navvy.ErrExhausted)
	case answer.ErrorCode == "QueueBeingDeleted" || answer.StatusCode >= http.StatusInternalServerError:
		return fmt.Errorf("%s: %w", what, navvy.ErrUnavailable)
	case answer.StatusCode == http.StatusConflict:
		return fmt.Errorf("%s: %w", what, navvy.ErrConflict)
	default:
		return fmt.Errorf("%s: %w", what, navvy.ErrInvalid)
	}
}

// unanswered is about a call without an answer.
func (s *settings) unanswered(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	if _, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok {
		return fmt.Errorf("%s: the identity is refused: %w: %w", what, err, navvy.ErrDenied)
	}
	// The URL that it stands in may end with a signature.
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		host := ""
		if u, bad := url.Parse(wrapped.URL); bad == nil {
			host = " at " + u.Host
		}
		return fmt.Errorf("%s: the account%s cannot be reached: %w: %w", what, host, wrapped.Err, navvy.ErrUnavailable)
	}
	return fmt.Errorf("%s: %w: %w", what, err, navvy.ErrUnavailable)
}
