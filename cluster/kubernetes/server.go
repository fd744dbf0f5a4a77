package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/client"
)

// withServer calls fn with a client of the cluster's server, as its administrator. The error
// wraps navvy.ErrUnavailable if it does not answer.
func (d *Driver) withServer(ctx context.Context, namespace, cluster string, fn func(*client.Client) error) error {
	dialing, cancel := context.WithTimeout(ctx, lookLength)
	defer cancel()
	conn, err := d.dial(dialing, namespace, cluster)
	if err != nil {
		return fmt.Errorf("the server does not answer: %w: %w", err, navvy.ErrUnavailable)
	}
	return errors.Join(fn(client.New(conn)), conn.Close())
}

// changeServer is withServer for a change, which has a bounded time.
func (d *Driver) changeServer(ctx context.Context, namespace, cluster string, fn func(context.Context, *client.Client) error) error {
	bounded, cancel := context.WithTimeout(ctx, d.change)
	defer cancel()
	err := d.withServer(bounded, namespace, cluster, func(c *client.Client) error { return fn(bounded, c) })
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("the server's pod %s has not answered in %s; kubectl --namespace %s logs %s has its words: %w: %w", podName(cluster), d.change, namespace, podName(cluster), err, navvy.ErrUnavailable)
	}
	return err
}

// dialPod connects to a cluster's server by way of a program in its pod, as kubectl exec starts
// one: in the pod one is the administrator, no port has to be open, and no certificate to be
// made.
func (d *Driver) dialPod(ctx context.Context, namespace, cluster string) (*grpc.ClientConn, error) {
	first, err := d.pipe(namespace, podName(cluster))
	if err != nil {
		return nil, err
	}
	firsts := make(chan net.Conn, 1)
	firsts <- first
	conn, err := grpc.NewClient("passthrough:navvy",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the way there is that of the API server
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(api.MaxMessage)),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case conn := <-firsts:
				return conn, nil
			default:
				return nil, first.last() // without an error gRPC wants a connection
			}
		}))
	if err != nil {
		return nil, errors.Join(err, first.Close())
	}
	if err := client.AwaitReady(ctx, conn, errHungUp); err != nil {
		if words := first.words(); words != nil {
			err = words
		}
		return nil, errors.Join(err, conn.Close(), first.Close())
	}
	return conn, nil
}

var errHungUp = fmt.Errorf("it hung up: %w", navvy.ErrUnavailable)

// piped is a connection through a program in a pod.
type piped struct {
	net.Conn
	end  context.CancelFunc
	over chan struct{}

	mu  sync.Mutex
	err error // why it ended
}

// Close ends the program.
func (p *piped) Close() error {
	err := p.Conn.Close()
	p.end()
	<-p.over
	return err
}

// words are why it has ended; nil if it has not.
func (p *piped) words() error {
	select {
	case <-p.over:
	default:
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		return errHungUp
	}
	return p.err
}

// last is why it has ended, or that it is used already.
func (p *piped) last() error {
	if err := p.words(); err != nil {
		return err
	}
	return errHungUp
}

// lastWords are what a program complains of. The client may still write there when it is done.
type lastWords struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer. There is room for a few lines.
func (w *lastWords) Write(p []byte) (int, error) {
	const most = 4 << 10
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p[:min(len(p), max(0, most-w.text.Len()))])
	return len(p), nil
}

func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(w.text.String())
}

// pipe starts navvy in the server's pod, which passes on what goes in and out.
func (d *Driver) pipe(namespace, pod string) (*piped, error) {
	request := d.raw.Post().AbsPath("/api/v1/namespaces/"+namespace+"/pods/"+pod+"/exec").
		Param("container", "server").Param("stdin", "true").Param("stdout", "true").Param("stderr", "true")
	for _, word := range []string{"navvy", "cluster", "pipe"} {
		request.Param("command", word)
	}
	at := request.URL()
	spdy, err := remotecommand.NewSPDYExecutor(d.config, http.MethodPost, at)
	if err != nil {
		return nil, err
	}
	socket, err := remotecommand.NewWebSocketExecutor(d.config, http.MethodGet, at.String())
	if err != nil {
		return nil, err
	}
	executor, err := remotecommand.NewFallbackExecutor(socket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	ctx, end := context.WithCancel(context.Background())
	p := &piped{Conn: near, end: end, over: make(chan struct{})}
	go func() {
		defer close(p.over)
		var said lastWords
		err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: far, Stdout: far, Stderr: &said})
		_ = far.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.err = d.explain(err); said.String() != "" {
			p.err = fmt.Errorf("%s: %w", said.String(), errHungUp)
		}
	}()
	return p, nil
}
