package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// anyServer is a gRPC server of any kind: requests name the method.
type anyServer struct {
	*keeper[*link]
}

func openAny(ctx context.Context, rest string, o *Options) (Service, error) {
	address, err := parseAddress(rest)
	if err != nil {
		return nil, err
	}
	return newAny(ctx, &server{opts: o, address: address})
}

func openAnyCommand(ctx context.Context, rest string, o *Options) (Service, error) {
	address, line, err := cutAddress(rest)
	if err != nil {
		return nil, err
	}
	p, err := newProgram(ctx, line, o)
	if err != nil {
		return nil, err
	}
	return newAny(ctx, &server{opts: o, address: address, program: p})
}

// cutAddress splits ADDRESS CMD.
func cutAddress(rest string) (address, line string, err error) {
	address, line, _ = strings.Cut(strings.TrimLeft(rest, " \t"), " ")
	if address != ownAddress {
		if address, err = parseAddress(address); err != nil {
			return "", "", fmt.Errorf("the first word says where the server will listen, or - if it listens at %s: %w", EnvAddr, err)
		}
	}
	return address, line, nil
}

func newAny(ctx context.Context, s *server) (Service, error) {
	if err := s.reachable(); err != nil {
		return nil, err
	}
	k, err := newKeeper(ctx, s.opts, s.open)
	if err != nil {
		return nil, err
	}
	return &anyServer{k}, nil
}

// anyRequest is the contract's request: which method, and its argument.
type anyRequest struct {
	ID          string `json:"Id"`
	ServiceName string
	MethodName  string
	Payload     []byte
}

// anyResponse is the contract's answer: a failure has an error, a success a payload.
type anyResponse struct {
	InReplyTo string
	Error     *string
	Payload   *[]byte
}

// Invoke implements Service. Every failure is an answer with an error in it.
func (a *anyServer) Invoke(ctx context.Context, r *Request) ([]byte, error) {
	var q anyRequest
	if a.isClosed() {
		return nil, errClosed
	}
	if err := json.Unmarshal(r.Body, &q); err != nil {
		return fail(&q, fmt.Errorf("the request is no JSON object with Id, ServiceName, MethodName and Payload: %w", err))
	}
	if q.ServiceName == "" || q.MethodName == "" || strings.Contains(q.ServiceName+q.MethodName, "/") {
		return fail(&q, errors.New("the request names no method: want ServiceName, in full, and MethodName"))
	}
	payload, err := a.invoke(ctx, &q)
	switch {
	case errors.Is(err, errClosed):
		return nil, err
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return fail(&q, err)
	}
	return encode(&anyResponse{InReplyTo: q.ID, Payload: &payload})
}

// invoke makes the call.
func (a *anyServer) invoke(ctx context.Context, q *anyRequest) ([]byte, error) {
	payload := []byte{}
	err := a.try(ctx, func(l *link) error {
		return l.call(ctx, func(ctx context.Context) error {
			return l.conn.Invoke(ctx, "/"+q.ServiceName+"/"+q.MethodName, &q.Payload, &payload, grpc.ForceCodecV2(raw{}))
		})
	})
	return payload, err
}

// fail is the answer of a request that failed.
func fail(q *anyRequest, err error) ([]byte, error) {
	message := err.Error()
	return encode(&anyResponse{InReplyTo: q.ID, Error: &message})
}

// raw leaves messages the bytes that they are.
type raw struct{}

// Name implements encoding.CodecV2: the bytes are those of protobuf.
func (raw) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (raw) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("service: a message is %T, not bytes", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*b)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("service: a message is %T, not bytes", v)
	}
	*b = data.Materialize()
	return nil
}
