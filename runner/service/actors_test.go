package service_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/navvy-run/navvy/runner/service"
	"github.com/navvy-run/navvy/sdk"
)

// actors are the services that the test binary can be.
var actors = map[string]func() error{
	"lines":      actLines,
	"lines-json": actJSON,
	"sdk":        func() error { return sdk.Serve(&actor{}) },
	"greeter":    actGreeter,
	"sick":       actSick,
}

// act does what a request asks for, and answers it.
func act(ctx context.Context, body string) (string, error) { //nolint:gocyclo // a word each
	if rest, ok := strings.CutPrefix(body, "begin "); ok {
		if err := os.WriteFile("begun", []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
			return "", err
		}
		_, err := act(ctx, rest)
		return body, err
	}
	switch word, rest, _ := strings.Cut(body, " "); word {
	case "pid":
		return strconv.Itoa(os.Getpid()), nil
	case "die":
		_, _ = fmt.Fprintln(os.Stderr, "I die")
		ms, _ := strconv.Atoi(rest)
		<-time.After(time.Duration(ms) * time.Millisecond)
		os.Exit(7)
	case "sleep":
		select {
		case <-time.After(1000 * time.Second):
		case <-ctx.Done():
			return "", errors.Join(ctx.Err(), os.WriteFile("cancelled", nil, 0o600))
		}
	case "wait":
		for {
			if _, err := os.Stat("go"); err == nil {
				return body, nil
			}
			<-time.After(time.Millisecond)
		}
	case "once": // never, and the next time at once
		if _, err := os.Stat("once" + rest); err == nil {
			return body, nil
		}
		if err := os.WriteFile("once"+rest, nil, 0o600); err != nil {
			return "", err
		}
		<-ctx.Done()
		return "", ctx.Err()
	case "eat":
		eaten := make([]byte, 1<<30)
		for i := 0; i < len(eaten); i += 4096 {
			eaten[i] = 1
		}
	case "long":
		return strings.Repeat("x", 100_000), nil
	}
	return body, nil
}

// actLines answers lines in their order.
func actLines() error {
	in, out := bufio.NewReaderSize(os.Stdin, 1<<16), bufio.NewWriterSize(os.Stdout, 1<<16)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return out.Flush() // the end
		}
		answer, err := act(context.Background(), strings.TrimSuffix(line, "\n"))
		if err != nil {
			return err
		}
		_, _ = out.WriteString(answer + "\n")
		if answer == "twice" {
			_, _ = out.WriteString(answer + "\n")
		}
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
}

// actJSON answers objects at once.
func actJSON() error {
	var mu sync.Mutex
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	in := bufio.NewReaderSize(os.Stdin, 1<<16)
	say := func(v any) {
		mu.Lock()
		defer mu.Unlock()
		if s, ok := v.(string); ok {
			_, _ = out.WriteString(s + "\n")
		} else {
			_ = json.NewEncoder(out).Encode(v)
		}
		_ = out.Flush()
	}
	running := map[string]context.CancelFunc{}
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return nil
		}
		var q struct {
			ID, Request string
			Attempt     int
			Body        *string
			Base64      []byte
			Cancel      bool
		}
		if err := json.Unmarshal(line, &q); err != nil {
			return err
		}
		if q.Cancel {
			running[q.ID]()
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		running[q.ID] = cancel
		if q.Body == nil {
			say(map[string]any{"id": q.ID, "base64": q.Base64})
			continue
		}
		go answerJSON(ctx, say, q.ID, *q.Body, fmt.Sprint(q.Request, " ", q.Attempt))
	}
}

func answerJSON(ctx context.Context, say func(any), id, body, about string) {
	switch body {
	case "garbage":
		say("Segmentation fault")
	case "nothing":
		say(map[string]any{"id": id})
	case "both":
		say(map[string]any{"id": id, "body": "", "error": ""})
	case "number":
		say(map[string]any{"id": "x", "body": ""})
	case "fail":
		say(map[string]any{"id": id, "error": "I fail"})
	case "never":
		say(map[string]any{"id": id, "error": "I never do", "final": true})
	case "id":
		say(map[string]any{"id": id, "body": about})
	default:
		answer, err := act(ctx, body)
		if err != nil {
			say(map[string]any{"id": id, "error": err.Error()})
			return
		}
		say(map[string]any{"id": id, "body": answer})
		if body == "twice" {
			say(map[string]any{"id": id, "body": answer})
		}
	}
}

// actor is a service with the SDK. It notes its ends in its directory.
type actor struct {
	mu    sync.Mutex
	ready bool
}

// Initialize implements sdk.Service.
func (a *actor) Initialize(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ready = true
	if _, err := os.Stat("refuse"); err == nil {
		return errors.New("there is no model")
	}
	return nil
}

// Invoke implements sdk.Service.
func (a *actor) Invoke(ctx context.Context, input []byte) ([]byte, error) {
	a.mu.Lock()
	ready := a.ready
	a.mu.Unlock()
	switch body := string(input); {
	case !ready:
		return nil, errors.New("it is not ready")
	case body == "invalid":
		return nil, fmt.Errorf("no: %w", sdk.ErrInvalid)
	case body == "busy":
		return nil, fmt.Errorf("later: %w", sdk.ErrUnavailable)
	case body == "fail":
		return nil, errors.New("I fail")
	case body == "panic":
		panic("I panic")
	case body == "id":
		r := sdk.RequestOf(ctx)
		return []byte(fmt.Sprint(r.ID, " ", r.Attempt)), nil
	case strings.HasPrefix(body, "do "):
		answer, err := act(ctx, body[3:])
		return []byte(answer), err
	}
	return input, nil
}

// Dispose implements sdk.Service.
func (a *actor) Dispose(context.Context) error {
	return os.WriteFile("disposed", nil, 0o600)
}

// listen is where a service that does without the SDK listens.
func listen() (net.Listener, error) {
	addr := os.Getenv(service.EnvAddr)
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return net.Listen("unix", path)
	}
	return net.Listen("tcp", addr)
}

// actGreeter is the usual helloworld.Greeter. Its messages are one string with the
// number 1, as a StringValue is.
func actGreeter() error {
	l, err := listen()
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	s.RegisterService(greeter(), nil)
	return s.Serve(l)
}

func greeter() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{ServiceName: "helloworld.Greeter", Methods: []grpc.MethodDesc{{
		MethodName: "SayHello",
		Handler: func(_ any, ctx context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var q wrapperspb.StringValue
			if err := read(&q); err != nil {
				return nil, err
			}
			switch q.GetValue() {
			case "nobody":
				return nil, status.Error(codes.NotFound, "nobody is not here")
			case "die":
				os.Exit(7)
			case "sleep":
				_, err := act(ctx, "begin sleep")
				return nil, err
			}
			return wrapperspb.String("Hello " + q.GetValue()), nil
		},
	}}}
}

// actSick offers any service and health that SIGUSR1 takes away and SIGUSR2 gives back.
func actSick() error {
	l, err := listen()
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	h := health.NewServer()
	s.RegisterService(greeter(), nil)
	grpc_health_v1.RegisterHealthServer(s, h)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	if err := os.WriteFile("begun", []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	go func() {
		for sig := range signals {
			now := grpc_health_v1.HealthCheckResponse_SERVING
			if sig == syscall.SIGUSR1 {
				now = grpc_health_v1.HealthCheckResponse_NOT_SERVING
			}
			h.SetServingStatus("", now)
		}
	}()
	return s.Serve(l)
}
