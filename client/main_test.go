package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/runner"
	runnerdriver "github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/server/auth"
)

// What the examples use: a server's address, and a folder with ann's certificate.
var address, certs string

// TestMain runs a server on loopback that executes its tasks itself.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "navvy-client-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	stop, err := serve(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "start a server:", err)
		return 1
	}
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the server:", err)
		return 1
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// serve starts a server that has all it keeps below dir.
func serve(dir string) (stop func() error, err error) {
	certs = filepath.Join(dir, "clients")
	authority, _, err := auth.OpenAuthority(filepath.Join(dir, "ca"), nil)
	if err != nil {
		return nil, err
	}
	pair := func(s auth.Subject) *tls.Certificate {
		p, _, pairErr := authority.EnsurePair(filepath.Join(certs, s.Name+".crt"), filepath.Join(certs, s.Name+".key"), s, nil)
		err = errors.Join(err, pairErr)
		return p
	}
	pair(auth.Subject{Name: "ann", Role: auth.RoleUser})
	own := pair(auth.Subject{Name: "server", Server: true, Hosts: []string{"127.0.0.1"}})
	rules, ruleErr := policy.Parse("policy.yaml", []byte("roles: {user: {isolate: off}}")) // not every machine isolates
	data, dirErr := holder.OpenDir(filepath.Join(dir, "data"))
	if err := errors.Join(err, ruleErr, dirErr, os.WriteFile(filepath.Join(certs, "ca.crt"), authority.CertPEM(), 0o600)); err != nil {
		return nil, err
	}
	lock, _, err := data.TryLock()
	if err != nil {
		return nil, err
	}
	h, err := holder.Start(context.Background(), lock, holder.Config{
		Dir: data, Policy: rules, Owner: "tester", Logger: slog.New(slog.DiscardHandler),
		OpenStore: func(context.Context, func(bool), func(error)) (driver.Store, error) { return memory.New(), nil },
		Runners: func(_ context.Context, journal *runner.Journal) ([]*runner.Runner, error) {
			d := process.NewDriver(&process.Options{Render: render, Work: filepath.Join(dir, "work")})
			return []*runner.Runner{runner.New(d, &runner.Options{Journal: journal})}, nil
		},
		Dispatch: manager.Push, Lease: time.Minute, Slots: 2, Parallelism: 1000,
		Serving: &holder.Serving{Listen: "127.0.0.1:0", Authority: authority, Pool: authority.Pool(), Certificate: auth.Fixed(own)},
	})
	if err != nil {
		return nil, err
	}
	port, _, _ := h.Addresses()
	address = port.String()
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_, err := h.Close(ctx, true)
		return err
	}, nil
}

// render puts the input where {} is.
func render(t *runnerdriver.Task) ([]string, error) {
	var argv []string
	for _, arg := range t.Spec.Command.Args {
		argv = append(argv, strings.ReplaceAll(arg, "{}", string(t.Input)))
	}
	return argv, nil
}

// dial connects as ann.
func dial(ctx context.Context) (c *client.Client, closeConn func()) {
	pair, err := auth.LoadPair(filepath.Join(certs, "ann.crt"), filepath.Join(certs, "ann.key"))
	pool, poolErr := auth.LoadPool(filepath.Join(certs, "ca.crt"))
	if err := errors.Join(err, poolErr); err != nil {
		panic(err)
	}
	conn, _, err := client.Dial(ctx, address, auth.ClientTLS(auth.Fixed(pair), pool))
	if err != nil {
		panic(err)
	}
	return client.New(conn), func() { _ = conn.Close() }
}
