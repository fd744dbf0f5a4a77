package service

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy"
	servicev1 "github.com/navvy-run/navvy/api/navvy/service/v1"
)

// user is a service that offers navvy.service.v1.UserService.
type user struct {
	*keeper[*link]
}

func openGRPC(ctx context.Context, rest string, o *Options) (Service, error) {
	address, err := parseAddress(rest)
	if err != nil {
		return nil, err
	}
	return newUser(ctx, &server{opts: o, address: address})
}

func openGRPCCommand(ctx context.Context, rest string, o *Options) (Service, error) {
	return newUserCommand(ctx, rest, o, ownAddress)
}

// openGRPCPort is for servers that cannot listen at sockets.
func openGRPCPort(ctx context.Context, rest string, o *Options) (Service, error) {
	return newUserCommand(ctx, rest, o, ownPort)
}

func newUserCommand(ctx context.Context, line string, o *Options, address string) (Service, error) {
	p, err := newProgram(ctx, line, o)
	if err != nil {
		return nil, err
	}
	return newUser(ctx, &server{opts: o, address: address, program: p})
}

func newUser(ctx context.Context, s *server) (Service, error) {
	s.greet, s.part = initialize, dispose
	if err := s.reachable(); err != nil {
		return nil, err
	}
	k, err := newKeeper(ctx, s.opts, s.open)
	if err != nil {
		return nil, err
	}
	return &user{k}, nil
}

// initialize makes the user's service ready.
func initialize(ctx context.Context, l *link) error {
	_, err := servicev1.NewUserServiceClient(l.conn).Initialize(ctx, &servicev1.InitializeRequest{Concurrency: int32(l.opts.Concurrency)})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("the service is not up after %s: Initialize has not returned", l.opts.StartTimeout)
	case status.Code(err) == codes.Unimplemented:
		return fmt.Errorf("the server offers no navvy.service.v1.UserService; grpc-any and grpc-any-cmd are for those without: %w", navvy.ErrUnsupported)
	}
	return fmt.Errorf("the service did not initialize: %s", status.Convert(err).Message())
}

// dispose tells the user's service that it is over.
func dispose(ctx context.Context, l *link) {
	if _, err := servicev1.NewUserServiceClient(l.conn).Dispose(ctx, &servicev1.DisposeRequest{}); err != nil {
		l.opts.Logger.Warn("the service was not disposed of", "err", err)
	}
}

// Invoke implements Service.
func (u *user) Invoke(ctx context.Context, r *Request) ([]byte, error) {
	var response *servicev1.InvokeResponse
	err := u.try(ctx, func(l *link) error {
		return l.call(ctx, func(ctx context.Context) (err error) {
			response, err = servicev1.NewUserServiceClient(l.conn).Invoke(ctx,
				&servicev1.InvokeRequest{Input: r.Body, Id: r.ID, Attempt: int32(min(r.Attempt, 1<<31-1))})
			return err
		})
	})
	switch {
	case err != nil:
		return nil, err
	case response.GetOutput() == nil:
		return []byte{}, nil
	}
	return response.GetOutput(), nil
}
