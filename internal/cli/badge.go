package cli

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// badge is what a worker shows to its server: a certificate that it was given, or
// one in its data directory, which it has joined for.
type badge struct {
	serverContext
	dir     string // of what it has joined with; empty if the certificate was given
	token   string // to join with; empty if it must have joined before
	name    string // what it would like to be called
	keyType auth.KeyType
}

// Files of a worker that has joined.
const (
	badgeDir    = "identity"
	badgeServer = "server" // the server's address
	badgeName   = "worker"
)

// badge finds out what the worker in a data directory shows, and to whom.
func (a *app) badge(f *workerFlags, data string) (*badge, error) {
	keyType, err := auth.ParseKeyType(f.keyType)
	if err != nil {
		return nil, &usageError{err}
	}
	if f.join != "" && (a.remote.Server != "" || a.remote.context != "") {
		return nil, usagef("--join and --server exclude each other: who joins gets a certificate, who has one names the server")
	}
	if f.join != "" && a.remote.Cert != "" { // who has a certificate has joined
		if f.tokenFile != "" {
			return nil, usagef("--token-file and --cert exclude each other: who has a certificate needs no token")
		}
		a.remote.Server, f.join = f.join, ""
	}
	given := a.remote.Cert != "" || a.remote.Server != "" || a.remote.context != ""
	if f.join == "" && (given || a.env("NAVVY_CERT") != "") {
		t, err := a.target()
		if err != nil {
			return nil, err
		}
		if t == nil {
			return nil, usagef("worker start: no server is named; give --join, or --server with --cert, --key and --ca")
		}
		return &badge{serverContext: t.serverContext}, nil
	}
	return a.ownBadge(f, filepath.Join(data, badgeDir), keyType)
}

// ownBadge is the badge of a worker that joins, or has joined before.
func (a *app) ownBadge(f *workerFlags, dir string, keyType auth.KeyType) (*badge, error) {
	b := &badge{dir: dir, name: cmp.Or(f.name, workerName()), keyType: keyType, serverContext: serverContext{
		Cert: filepath.Join(dir, badgeName+".crt"), Key: filepath.Join(dir, badgeName+".key"), CA: filepath.Join(dir, caFile),
	}}
	if err := auth.ValidateName(b.name); err != nil {
		return nil, &usageError{err}
	}
	var err error
	if b.token, err = f.token(a); err != nil {
		return nil, err
	}
	if b.token != "" && (f.tokenFile != "" || strings.HasPrefix(b.token, "navvy-join.")) { // a task that starts a worker has another NAVVY_TOKEN
		if _, err := auth.ParseToken(b.token); err != nil {
			return nil, &usageError{err}
		}
	} else {
		b.token = ""
	}
	return b, b.findServer(f.join)
}

// workerName is what a worker would like to be called that does not say.
func workerName() string {
	host, err := os.Hostname()
	if err != nil {
		return "worker"
	}
	host, _, _ = strings.Cut(host, ".")
	return userName(host)
}

// findServer says which server it is: the one that flags name, else the one that was
// joined before.
func (b *badge) findServer(join string) error {
	stored, err := os.ReadFile(filepath.Join(b.dir, badgeServer))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("worker: %w", err)
	}
	address := cmp.Or(join, strings.TrimSpace(string(stored)))
	if address == "" {
		return withHint(usagef("worker start: no server is named"), "give --join ADDR and a token, made on the server with navvy token create")
	}
	if b.Server, err = parseAddress(address); err != nil {
		return &usageError{err}
	}
	if b.token == "" && !b.good() {
		return withHint(usagef("worker start: there is no token, and no certificate from an earlier time in %s", b.dir),
			"make one on the server with navvy token create, and give it with --token-file or in NAVVY_TOKEN")
	}
	return nil
}

// good tells whether it has joined before, with what is still good: a token for
// another authority says that it is not.
func (b *badge) good() bool {
	pair, err := auth.LoadPair(b.Cert, b.Key)
	if err != nil {
		return false
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil || time.Now().After(cert.NotAfter) {
		return false
	}
	text, err := os.ReadFile(b.CA)
	if err != nil {
		return false
	}
	ca, err := auth.ParseCertPEM(text)
	if err != nil {
		return false
	}
	t, err := auth.ParseToken(b.token)
	return err != nil || t.Fingerprint == auth.Fingerprint(ca[0])
}

// obtain joins, unless it has joined before; for as long as the server cannot be reached.
func (b *badge) obtain(ctx context.Context, log *slog.Logger) error {
	if b.dir == "" || b.good() {
		return nil
	}
	pauses := awayPauses()
	for first := true; ; first = false {
		trying, cancel := context.WithTimeout(ctx, handover)
		joined, err := client.Join(trying, b.Server, b.token, b.name, b.keyType)
		cancel()
		if err == nil {
			log.Info("joined", "server", b.Server, "worker", joined.Name)
			return b.keep(&joined)
		}
		if errors.Is(err, navvy.ErrDenied) {
			err = withHint(err, "make another token on the server: navvy token create")
		}
		if !waitsFor(err, trying) || ctx.Err() != nil {
			return err
		}
		if first {
			log.Warn("the server cannot be reached; trying again", "server", b.Server, "error", err)
		}
		if err := pauses.Wait(ctx); err != nil {
			return err
		}
	}
}

// keep keeps what it has joined with, the certificate last: without it nothing counts.
func (b *badge) keep(j *client.Joined) error {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	for _, f := range []struct {
		path string
		text []byte
	}{
		{filepath.Join(b.dir, badgeServer), []byte(b.Server + "\n")}, {b.Key, j.Key}, {b.CA, j.CA}, {b.Cert, j.Certificate},
	} {
		if err := auth.WriteFile(f.path, f.text); err != nil {
			return err
		}
	}
	return nil
}

// check refuses a certificate that is not a worker's.
func (b *badge) check(me *client.Me) error {
	if me.Role == auth.RoleWorker {
		return nil
	}
	return withHint(fmt.Errorf("the certificate %s is that of %s, role %s, and not a worker's: %w", b.Cert, me.Name, me.Role, navvy.ErrDenied),
		"join with a token (navvy token create), or issue one: navvy cert issue --role worker")
}

// renew renews the certificate when it comes near its end, until it is over.
func (b *badge) renew(ctx context.Context, over <-chan struct{}, c *client.Client, log *slog.Logger) {
	if b.dir == "" {
		return // whoever has given it sees to it
	}
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		b.renewOnce(ctx, c, log)
		select {
		case <-ctx.Done():
			return
		case <-over:
			return
		case <-ticker.C:
		}
	}
}

func (b *badge) renewOnce(ctx context.Context, c *client.Client, log *slog.Logger) {
	pair, err := auth.LoadPair(b.Cert, b.Key)
	if err == nil {
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(pair.Certificate[0]); err == nil && !auth.NeedsRenewal(cert, time.Now()) {
			return
		}
	}
	until := time.Time{}
	if err == nil {
		until, err = renewFile(ctx, c, b.Cert, b.Key)
	}
	if err != nil {
		log.Error("the certificate cannot be renewed", "file", b.Cert, "error", err)
		return
	}
	log.Info("certificate renewed", "file", b.Cert, "until", until)
}
