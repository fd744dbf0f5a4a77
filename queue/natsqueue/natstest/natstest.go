// Package natstest starts a NATS server for tests: the test's own program, once more.
package natstest

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"os/signal"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

const variable = "NAVVY_TEST_NATS"

// Options are of the server, as far as tests want to set them.
type Options struct {
	Username, Password string
	MaxPayload         int32
	NoJetStream        bool
	// CA, Cert and Key are files: with them it speaks TLS alone, with clients that CA has
	// issued certificates for.
	CA, Cert, Key string

	port int
	dir  string
}

// child is what the program is told when it is to be the server.
type child struct {
	Options
	Port int
	Dir  string
}

// Serve is the first thing that TestMain does: if this program was started to be a server
// it is one, and Serve does not return.
func Serve() {
	raw := os.Getenv(variable)
	if raw == "" {
		return
	}
	var c child
	if err := json.Unmarshal([]byte(raw), &c); err != nil {
		panic(err)
	}
	o := &server.Options{
		Host: "127.0.0.1", Port: c.Port, JetStream: !c.NoJetStream, StoreDir: c.Dir, NoSigs: true,
		Username: c.Username, Password: c.Password, MaxPayload: c.MaxPayload,
	}
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	if c.CA != "" {
		config, err := server.GenTLSConfig(&server.TLSConfigOpts{CaFile: c.CA, CertFile: c.Cert, KeyFile: c.Key, Verify: true})
		if err != nil {
			panic(err)
		}
		o.TLS, o.TLSVerify, o.TLSConfig, o.TLSTimeout = true, true, config, 5
	}
	s, err := server.NewServer(o)
	if err != nil {
		panic(err)
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	go s.Start()
	if !s.ReadyForConnections(server.DEFAULT_PING_INTERVAL) {
		panic("the server does not start")
	}
	// Whoever started us reads where we are, and keeps our standard input open as long as
	// we are wanted: also if it is killed.
	if _, err := os.Stdout.WriteString(s.Addr().String() + "\n"); err != nil {
		panic(err)
	}
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	s.Shutdown()
	os.Exit(0)
}

// Server is a NATS server of a test's own.
type Server struct {
	Addr string

	opts Options
	cmd  *exec.Cmd
}

// Start starts one on 127.0.0.1, which ends with the test.
func Start(tb testing.TB, o *Options) *Server {
	tb.Helper()
	s := &Server{}
	if o != nil {
		s.opts = *o
	}
	s.opts.dir = tb.TempDir()
	s.Restart(tb)
	tb.Cleanup(func() { s.Kill(tb) })
	return s
}

// Kill ends it without warning.
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		tb.Errorf("kill nats: %v", err)
	}
	_ = s.cmd.Wait() // which tells of the kill
}

// Restart starts it with what it has on disk, at the address that it had.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	raw, err := json.Marshal(child{Options: s.opts, Port: s.opts.port, Dir: s.opts.dir})
	if err != nil {
		tb.Fatal(err)
	}
	s.cmd = exec.Command(os.Args[0]) //nolint:noctx // it is killed at the test's end
	s.cmd.Env = append(os.Environ(), variable+"="+string(raw))
	s.cmd.Stderr = os.Stderr
	if _, err := s.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatalf("the server does not start: %v", err)
	}
	s.Addr = line[:len(line)-1]
	s.opts.port = portOf(tb, s.Addr)
}
