package servicebusqueue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// dial connects, and finds the queue or makes it.
func (s *settings) dial(ctx context.Context) (driver.Queue, error) {
	c := &conn{settings: s, turn: make(chan struct{}, 1), unique: make(chan struct{}, 1), fetch: 1, maxBody: smallBody}
	c.life, c.cut = context.WithCancelCause(context.Background())
	context.AfterFunc(c.life, c.shut)
	err := c.connect()
	if err == nil {
		err = c.prepare(ctx)
	}
	if err != nil {
		_ = c.Close() // it has nothing to lose
		return nil, err
	}
	return c, nil
}

// connect makes a client of the SDK and its ends, which connect when they are used. It tries
// again once only: package queue does the rest. To be told not to would have it renew its
// claims in a loop without a pause when the service is busy.
func (c *conn) connect() error {
	o := &azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{MaxRetries: 1, RetryDelay: time.Second}, NewWebSocketConn: c.connector()}
	var err error
	if c.connection != "" {
		c.client, err = azservicebus.NewClientFromConnectionString(c.connection, o)
	} else {
		var credential azcore.TokenCredential
		if credential, err = c.credential(); err == nil {
			c.client, err = azservicebus.NewClient(c.host, credential, o)
		}
	}
	if err != nil {
		return err
	}
	if !c.dead {
		if c.sender, err = c.client.NewSender(c.name, nil); err != nil {
			return c.failed(c.life, "connect", err)
		}
	}
	c.receiver, err = c.newReceiver()
	return c.failed(c.life, "connect", err)
}

func (c *conn) newReceiver() (*azservicebus.Receiver, error) {
	o := &azservicebus.ReceiverOptions{}
	if c.dead {
		o.SubQueue = azservicebus.SubQueueDeadLetter
	}
	return c.client.NewReceiverForQueue(c.name, o)
}

// credential is an identity that is asked for as long as the connection lives, and not for
// ever: the SDK sets no bounds.
func (c *conn) credential() (azcore.TokenCredential, error) {
	identity, err := c.identity()
	if err != nil {
		return nil, fmt.Errorf("servicebusqueue: no credentials for the namespace %s: set its connection string, or give this machine a managed identity: %w: %w", c.host, err, navvy.ErrDenied)
	}
	return bounded{identity, c.life}, nil
}

type bounded struct {
	azcore.TokenCredential
	life context.Context //nolint:containedctx // of the connection
}

func (b bounded) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSilent)
	defer cancel()
	defer context.AfterFunc(b.life, cancel)()
	return b.TokenCredential.GetToken(ctx, o)
}

// prepare finds the queue, or makes it.
func (c *conn) prepare(ctx context.Context) error {
	ctx, leave, err := c.enter(ctx, dialTimeout)
	if err != nil {
		return err
	}
	defer leave()
	err = c.probe(ctx)
	if !errors.Is(err, navvy.ErrNotFound) || !c.create {
		return err
	}
	if err := c.makeQueue(ctx); err != nil {
		return err
	}
	return c.probe(ctx)
}

// probe opens the links, which tells whether the queue is there, and whether we may use it:
// to send, or else to receive.
func (c *conn) probe(ctx context.Context) error {
	if c.sender != nil {
		batch, err := c.sender.NewMessageBatch(ctx, nil)
		if err == nil && batch.AddMessage(&azservicebus.Message{Body: make([]byte, largeBody)}, nil) == nil {
			c.maxBody = largeBody
		}
		if err = c.failed(ctx, "find the queue", err); !errors.Is(err, navvy.ErrDenied) {
			return err
		}
	}
	nobody := int64(math.MaxInt64)
	_, err := c.receiver.PeekMessages(ctx, 1, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &nobody})
	return c.failed(ctx, "find the queue", err)
}

// makeQueue makes the queue. One that somebody else has made meanwhile is used as it is.
func (c *conn) makeQueue(ctx context.Context) error {
	client, end, err := c.administrator()
	if err != nil {
		return err
	}
	defer end()
	lock := fmt.Sprintf("PT%dS", int(min(max(c.lease, minLock), maxLock)/time.Second))
	dead, most := true, int32(deliveries)
	_, err = client.CreateQueue(ctx, c.name, &admin.CreateQueueOptions{Properties: &admin.QueueProperties{
		LockDuration: &lock, MaxDeliveryCount: &most, DeadLetteringOnMessageExpiration: &dead,
	}})
	if err = c.failed(ctx, "make the queue", err); errors.Is(err, navvy.ErrConflict) {
		return nil
	}
	if errors.Is(err, navvy.ErrDenied) {
		return fmt.Errorf("the queue is missing, and these credentials may not make it: make it, or use some with the right to manage: %w", err)
	}
	return err
}

// administrator is a client of the namespace's management, over HTTPS. An emulator's is
// without TLS, on its own port, or if that is the usual one on 5300. The function ends its
// connections.
func (c *conn) administrator() (client *admin.Client, end func(), err error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: callTimeout / 2}
	var through http.RoundTripper = transport
	if c.emulator {
		host := c.host
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(host, "5300")
		}
		through = plain{transport, host}
	}
	o := &admin.ClientOptions{ClientOptions: azcore.ClientOptions{
		Retry:     policy.RetryOptions{MaxRetries: -1, TryTimeout: callTimeout},
		Telemetry: policy.TelemetryOptions{Disabled: true},
		Transport: &http.Client{Transport: through},
	}}
	if c.connection != "" {
		client, err = admin.NewClientFromConnectionString(c.connection, o)
		return client, transport.CloseIdleConnections, c.failed(c.life, "speak to the management", err)
	}
	credential, err := c.credential()
	if err != nil {
		return nil, nil, err
	}
	client, err = admin.NewClient(c.host, credential, o)
	return client, transport.CloseIdleConnections, c.failed(c.life, "speak to the management", err)
}

// plain sends without TLS.
type plain struct {
	*http.Transport
	host string
}

func (p plain) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", p.host
	return p.Transport.RoundTrip(r)
}
