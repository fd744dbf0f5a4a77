package local

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/server/auth"
)

// workerPart is a worker: of the cluster's server, or one that does without.
type workerPart struct {
	concurrency int
	labels      map[string]string
	server      bool

	// Of one without a server.
	args  []string
	env   map[string]string
	files string
}

// What a worker has after SIGTERM: what runs may end, and is ended.
const (
	drainTime   = 30 * time.Second
	workerGrace = drainTime + 45*time.Second
)

// Names in a worker's data directory.
const (
	identityDir = "identity"
	identityCA  = "ca.crt"
	identity    = "worker.crt"
)

func (p *workerPart) put(ctx context.Context, s *site, r *driver.Resource) error {
	data := s.path(workersDir, r.Name)
	if err := makeDir(data); err != nil {
		return err
	}
	args := []string{s.d.o.Navvy, "worker", "start", "--data", data, "-j", strconv.Itoa(p.concurrency), "--drain-timeout", drainTime.String(), "--log-format", "json"}
	spec := &unit.Spec{Name: r.Name, Dir: data, Grace: workerGrace, Env: s.d.environment(p.env)}
	if p.server {
		delete(s.record.Data, "files")
		if err := s.joining(ctx, r.Name, data); err != nil {
			return err
		}
		s.record.Data["join"] = loopback(s.mark.Ports.GRPC)
		args = append(args, "--join", s.record.Data["join"], "--token-file", s.tokenFile(r.Name), "--name", s.name+"-"+r.Name)
		for _, name := range sortedKeys(p.labels) {
			args = append(args, "--label", name+"="+p.labels[name])
		}
	} else {
		args = append(args, "--requests-file", s.urlFile(requestSide), "--responses-file", s.urlFile(responseSide))
		args = append(args, p.args...)
		if p.files != "" {
			spec.Dir = s.filesAt(p.files)
		}
		s.record.Data["files"] = p.files
	}
	spec.Args = args
	// What it reads from files changes without its arguments: with another token it is to join
	// anew, whatever it has in memory.
	token, err := os.ReadFile(s.tokenFile(r.Name))
	if err != nil && p.server {
		return err
	}
	spec.Notes = map[string]string{"needs": r.Properties[requestSide] + " " + r.Properties[responseSide], "token": shortSum(token)}
	return s.putUnit(ctx, spec)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// tokenFile is where the token is that a worker joins with, for this user alone.
func (s *site) tokenFile(worker string) string { return s.path(secretsDir, worker+".token") }

// joining gives a worker a token of its own, unless it has joined this server before. One that
// has joined another one, as before the server's data were lost, joins anew, as does one whose
// certificate has expired or was revoked.
func (s *site) joining(ctx context.Context, name, data string) error {
	if err := makeDir(s.path(secretsDir)); err != nil {
		return err
	}
	ours, err := s.belongs(ctx, name)
	if err == nil && !ours { // one that is about to join would write what is removed here
		if err = s.units.Remove(ctx, name); err == nil {
			ours, err = s.belongs(ctx, name)
		}
	}
	if err != nil {
		return err
	}
	if ours {
		if _, err := os.Stat(s.tokenFile(name)); err == nil {
			return nil
		}
	} else if err := os.RemoveAll(filepath.Join(data, identityDir)); err != nil {
		return err
	}
	token, err := s.newToken(ctx)
	if err != nil {
		return err
	}
	return unit.WriteFile(s.tokenFile(name), token)
}

// newToken is a token with which one worker can join, as its file has it.
func (s *site) newToken(ctx context.Context) (token []byte, err error) {
	err = s.withServer(ctx, func(c *client.Client) error {
		text, _, err := c.CreateToken(ctx, 0, 1)
		token = []byte(text + "\n")
		return err
	})
	return token, err
}

// belongs tells whether a worker has a certificate with which the server lets it in.
func (s *site) belongs(ctx context.Context, worker string) (bool, error) {
	id, err := s.identity(worker)
	if err != nil {
		return false, err
	}
	return s.admits(ctx, id)
}

// admits tells whether the server lets in whoever has an identity.
func (s *site) admits(ctx context.Context, id Identity) (bool, error) {
	ours, err := s.joined(id)
	if err != nil || !ours {
		return false, err
	}
	refused, err := s.refused(ctx, id)
	return !refused, err
}

// refused asks the server whether the certificate of a worker was revoked, as it is of one that
// was removed.
func (s *site) refused(ctx context.Context, id Identity) (refused bool, err error) {
	own := id.certificate()
	if own == nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	err = s.withServer(ctx, func(c *client.Client) error {
		for cert, err := range c.Certificates(ctx, own.Subject.CommonName) {
			if err != nil {
				return err
			}
			refused = refused || cert.Serial == auth.Serial(own.SerialNumber) && !cert.Revoked.IsZero()
		}
		return nil
	})
	return refused, err
}

// Identity is what a worker has been given when it joined, in PEM: its certificate and that
// of the server's authority. Both are nil for one that has not joined.
type Identity struct{ CA, Cert []byte }

// identity reads that of a worker.
func (s *site) identity(worker string) (id Identity, err error) {
	for name, to := range map[string]*[]byte{identityCA: &id.CA, identity: &id.Cert} {
		*to, err = os.ReadFile(s.path(workersDir, worker, identityDir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Identity{}, err
		}
	}
	return id, nil
}

// joined tells whether a worker has a certificate of this server's authority that is good still.
func (s *site) joined(id Identity) (bool, error) {
	if id.CA == nil {
		return false, nil
	}
	server, err := os.ReadFile(s.path(serverDir, "clients", identityCA))
	if err != nil {
		return false, fmt.Errorf("the server has no authority yet: %w: %w", err, navvy.ErrUnavailable)
	}
	cert := id.certificate() // nil if it has not finished that
	return cert != nil && bytes.Equal(id.CA, server) && time.Now().Before(cert.NotAfter), nil
}

// certificate is nil for one that has not joined.
func (id Identity) certificate() *x509.Certificate {
	certs, err := auth.ParseCertPEM(id.Cert)
	if err != nil {
		return nil
	}
	return certs[0]
}

// name is what the server calls the worker; empty if it has not joined.
func (id Identity) name() string {
	if cert := id.certificate(); cert != nil {
		return cert.Subject.CommonName
	}
	return ""
}

// dismiss has the server forget a worker, unless it does not answer.
func (s *site) dismiss(ctx context.Context, id Identity) error {
	known := id.name()
	if known == "" {
		return nil
	}
	err := s.withServer(ctx, func(c *client.Client) error { return c.RemoveWorker(ctx, known) })
	if errors.Is(err, navvy.ErrNotFound) || errors.Is(err, navvy.ErrUnavailable) {
		return nil
	}
	return err
}

// removeWorker ends a worker, and has the server forget it.
func (s *site) removeWorker(ctx context.Context, name string) error {
	if err := s.units.Remove(ctx, name); err != nil {
		return err
	}
	id, err := s.identity(name)
	if err == nil {
		err = s.dismiss(ctx, id)
	}
	if err != nil {
		return err
	}
	if err := os.Remove(s.tokenFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return parcelRemove(s.path(workersDir, name))
}
