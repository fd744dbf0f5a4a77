package sdk_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/service"
	"github.com/navvy-run/navvy/sdk"
)

// envServe makes the test binary, started again, a service.
const envServe = "NAVVY_TEST_SERVE"

func TestMain(m *testing.M) {
	if os.Getenv(envServe) != "" {
		err := sdk.Serve(sdk.Func(func(_ context.Context, input []byte) ([]byte, error) { return input, nil }))
		if err != nil {
			_, _ = io.WriteString(os.Stderr, err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// patience bounds each wait.
const patience = time.Minute

// byHand starts the test binary as a service, with these arguments and environment.
func byHand(t *testing.T, args []string, env ...string) (stdout, stderr string, err error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(env, envServe+"=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// TestBecome starts a service by hand: it becomes navvy, as a worker of itself.
func TestBecome(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := "#!/bin/sh\nprintf '%s\\n' \"$@\"\necho secret=$SECRET\n"
	if err := os.WriteFile(filepath.Join(dir, "navvy"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, env := range []string{"PATH=" + dir, "NAVVY_BIN=" + filepath.Join(dir, "navvy")} {
		out, _, err := byHand(t, []string{"--requests", "amqp://localhost/a b", "-j", "3"}, env, "SECRET=s")
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(out, "\n")
		want := []string{"worker", "start", "--service", lines[3], "--requests", "amqp://localhost/a b", "-j", "3", "secret=s", ""}
		if strings.Join(lines, "\n") != strings.Join(want, "\n") {
			t.Errorf("became navvy with %q", lines)
		}
		command, ok := strings.CutPrefix(lines[3], "grpc-cmd:")
		words, err := service.Words(command)
		if !ok || err != nil || len(words) != 1 || words[0] != self {
			t.Errorf("its service is %q: %q, %v", lines[3], words, err)
		}
	}
}

// TestByHandFails says what to do.
func TestByHandFails(t *testing.T) {
	t.Parallel()
	for words, start := range map[string]struct {
		args []string
		env  []string
	}{
		"start it with the queues":       {},
		"put it into PATH":               {args: []string{"-j", "1"}, env: []string{"PATH=" + t.TempDir()}},
		"listen at unix:/no/such/socket": {env: []string{sdk.EnvAddr + "=unix:/no/such/socket"}},
	} {
		_, said, err := byHand(t, start.args, start.env...)
		if _, ok := errors.AsType[*exec.ExitError](err); !ok || !strings.Contains(said, words) {
			t.Errorf("%v: %s; want %q", err, said, words)
		}
	}
}

// orphaned ends a service whose navvy is gone: of that it has the other end of its
// standard input.
func orphaned(t *testing.T, address string, env []string, args ...string) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	theirs, ours := os.NewFile(uintptr(fds[0]), "theirs"), os.NewFile(uintptr(fds[1]), "ours")
	defer theirs.Close()
	p, err := process.Start(&process.Config{Args: args, Env: append(env, sdk.EnvAddr+"="+address), Stdin: theirs, Stderr: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, openErr := service.Open(ctx, "grpc:"+address, &service.Options{StartTimeout: patience})
	if openErr == nil {
		openErr = s.Close(ctx)
	}
	_ = ours.Close()
	if end, err := p.Wait(ctx); err != nil || end.Exit.Code != 0 || openErr != nil {
		_ = p.Stop(true)
		t.Errorf("ended as %+v, %v; %v", end, err, openErr)
	}
}

// socket is an address for a service.
func socket(t *testing.T) string {
	t.Helper()
	return "unix:" + filepath.Join(t.TempDir(), "s")
}

func TestOrphan(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	orphaned(t, socket(t), []string{envServe + "=1"}, self)
}

// opened opens an example.
func opened(t *testing.T, spec string, env []string) service.Service {
	t.Helper()
	processes := process.NewDriver(&process.Options{Work: filepath.Join(t.TempDir(), "work")})
	t.Cleanup(func() {
		if err := processes.Close(); err != nil {
			t.Error(err)
		}
	})
	s, err := service.Open(t.Context(), spec, &service.Options{
		Processes: processes, Env: env, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// reverses checks that a service is the one of the examples.
func reverses(t *testing.T, s service.Service) {
	t.Helper()
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			n := strconv.Itoa(i)
			answer, err := s.Invoke(t.Context(), &service.Request{ID: n, Attempt: i, Body: []byte(" a  é " + n + "\n")})
			if err != nil || string(answer) != n+" é a" {
				t.Errorf("%d: %q, %v", i, answer, err)
			}
		})
	}
	all.Wait()
	long := strings.Repeat("x", 5<<20)
	if answer, err := s.Invoke(t.Context(), &service.Request{Body: []byte(long + " y")}); err != nil || string(answer) != "y "+long {
		t.Errorf("a long one: %.20q, %v", answer, err)
	}
	if answer, err := s.Invoke(t.Context(), &service.Request{}); err != nil || len(answer) != 0 {
		t.Errorf("an empty one: %q, %v", answer, err)
	}
	_, err := s.Invoke(t.Context(), &service.Request{Body: []byte("\xff")})
	if f, ok := errors.AsType[*service.Failure](err); !ok || !f.Final || !strings.Contains(f.Message, "no text") {
		t.Errorf("what is no text: %v", err)
	}
}

func TestGoExample(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "reverse")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "./examples/reverse")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	reverses(t, opened(t, "grpc-cmd:"+program, nil))
}

func TestPythonExample(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	needs(t, nil, "apt-get install python3-grpcio", python, "-c", "import grpc")
	path := example(t, "python/reverse.py")
	fails(t, opened(t, "grpc-cmd:"+python+" '"+path+"'", nil))
	orphaned(t, socket(t), nil, python, path)
}

func TestNodeExample(t *testing.T) {
	t.Parallel()
	// Where @grpc/grpc-js is installed, if not where node finds it by itself.
	env := []string{"NODE_PATH=" + os.Getenv("NAVVY_TEST_NODE_PATH"), "PATH=" + os.Getenv("PATH")}
	needs(t, env, "npm install @grpc/grpc-js, and name its node_modules in NAVVY_TEST_NODE_PATH", "node", "-e", "require('@grpc/grpc-js')")
	path := example(t, "node/reverse.js")
	fails(t, opened(t, "grpc-cmd:node '"+path+"'", env))
	orphaned(t, socket(t), env, "node", path)
}

func TestJavaExample(t *testing.T) {
	t.Parallel()
	const jars = "/usr/share/java/"
	var classes []string
	for _, name := range []string{"grpc-api", "grpc-context", "grpc-core", "grpc-netty", "grpc-stub", "guava", "netty-buffer", "netty-codec", "netty-codec-http", "netty-codec-http2",
		"netty-common", "netty-handler", "netty-resolver", "netty-transport", "perfmark-api"} {
		classes = append(classes, jars+name+".jar")
	}
	path := example(t, "java/Reverse.java")
	java := []string{"java", "-XX:TieredStopAtLevel=1", "-cp", strings.Join(classes, ":"), path}
	env := []string{"PATH=" + os.Getenv("PATH")}
	needs(t, env, "apt-get install openjdk-17-jdk-headless libgrpc-java libnetty-java libperfmark-java", "sh", "-c", "test -e "+jars+"grpc-netty.jar && test -e "+jars+"perfmark-api.jar && javac -version")
	fails(t, opened(t, "grpc-tcp-cmd:"+strings.Join(java, " "), env))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	orphaned(t, l.Addr().String(), env, java...)
}

// needs skips a test whose language is not there; where all parts must be there it fails.
func needs(t *testing.T, env []string, mend string, command ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("%s: %v: %s; %s", command[0], err, out, mend)
	default:
		t.Skipf("%s lacks something: %s", command[0], mend)
	}
}

// example is the path of a file of the examples.
func example(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// fails checks an example whose service can be told to fail.
func fails(t *testing.T, s service.Service) {
	t.Helper()
	reverses(t, s)
	_, err := s.Invoke(t.Context(), &service.Request{Body: []byte("fail")})
	if f, ok := errors.AsType[*service.Failure](err); !ok || f.Final || !strings.Contains(f.Message, "as you wish") {
		t.Errorf("what fails: %v", err)
	}
}
