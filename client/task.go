package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
)

// What a task finds in its environment to call its navvy with: an address, and what
// says which attempt calls.
const (
	EnvAddr      = "NAVVY_ADDR"
	EnvTaskToken = "NAVVY_TASK_TOKEN"
)

// TaskTokenKey is the metadata that carries a task's token in each of its calls.
const TaskTokenKey = "navvy-task-token"

// DialTask connects a task with the navvy that runs it, with what it finds in its
// environment as NAVVY_ADDR and NAVVY_TASK_TOKEN. New makes a client of the connection,
// which may use KV and nothing else: the values of the task's owner. All is over with
// the attempt. The caller closes the connection. The error wraps navvy.ErrInvalid for
// an address that is none, and navvy.ErrUnavailable if nobody answers there.
func DialTask(ctx context.Context, addr, token string) (*grpc.ClientConn, error) {
	path, ok := strings.CutPrefix(addr, "unix://")
	switch {
	case !ok || !filepath.IsAbs(path):
		return nil, fmt.Errorf("%s is %q: want unix:// and the path of a socket: %w", EnvAddr, addr, navvy.ErrInvalid)
	case token == "":
		return nil, fmt.Errorf("%s is set and %s is not: a task finds both: %w", EnvAddr, EnvTaskToken, navvy.ErrInvalid)
	}
	conn, err := grpc.NewClient("passthrough:task",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // a socket of this machine
		grpc.WithPerRPCCredentials(taskToken(token)),
		Reconnect(), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(api.MaxMessage)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}))
	if err != nil {
		return nil, fmt.Errorf("the navvy at %s: %w: %w", addr, err, navvy.ErrInvalid)
	}
	if err := AwaitReady(ctx, conn, fmt.Errorf("it does not answer: %w", navvy.ErrUnavailable)); err != nil {
		return nil, errors.Join(fmt.Errorf("the navvy of this task, at %s: %w", addr, err), conn.Close())
	}
	return conn, nil
}

// taskToken goes along with each call.
type taskToken string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t taskToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{TaskTokenKey: string(t)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: a socket has none.
func (taskToken) RequireTransportSecurity() bool { return false }
