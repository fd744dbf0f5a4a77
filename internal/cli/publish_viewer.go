package cli

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/kubesecret"
	"github.com/navvy-run/navvy/server/auth"
)

// viewerName is who the viewer is whose certificate is published.
const viewerName = "scaler"

// A viewer's certificate is read by those who look at it again when it has failed them, and
// not before: it is good for long.
const (
	viewerLifetime = 90 * 24 * time.Hour
	viewerEvery    = viewerLifetime / 3
)

// Keys of its Secret, and names of files.
const (
	viewerCert = "tls.crt"
	viewerKey  = "tls.key"
)

// publishViewer writes a viewer's certificate: the one that is kept, or if that is not good any
// more another one, which is kept from then on. The token is of the server's authority.
func (f *publishFlags) publishViewer(ctx context.Context, c *client.Client, token string, w *kubesecret.Writer, log *slog.Logger) error {
	v, err := f.keptViewer(ctx, c, token)
	if err != nil {
		return err
	}
	if v == nil {
		if v, err = newViewer(ctx, c); err != nil {
			return err
		}
		if err := v.keep(f.viewerDir); err != nil {
			log.Warn("the viewer's certificate is not kept, and the next start publishes another", "error", err)
		}
	}
	if err = w.Set(ctx, f.viewer, v.files); err == nil {
		f.viewerDue = v.due
		log.Info("certificate published", "secret", f.viewer, "name", viewerName)
	}
	return err
}

// viewer is what is published.
type viewer struct {
	files  map[string][]byte
	serial string
	due    time.Time // when another is made
}

// newViewer has the server issue one.
func newViewer(ctx context.Context, c *client.Client) (*viewer, error) {
	private, err := auth.NewKey(auth.Ed25519)
	if err != nil {
		return nil, err
	}
	key, err := auth.KeyPEM(private)
	if err != nil {
		return nil, err
	}
	issued, err := c.Issue(ctx, private, viewerName, auth.RoleViewer, viewerLifetime)
	if err != nil {
		return nil, err
	}
	return &viewer{
		files: map[string][]byte{viewerCert: issued.Certificate, viewerKey: key, caFile: issued.CA},
		due:   time.Now().Add(viewerEvery),
	}, nil
}

// keep writes it to a directory, the certificate last: without it nothing counts.
func (v *viewer) keep(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{viewerKey, caFile, viewerCert} {
		if err := auth.WriteFile(filepath.Join(dir, name), v.files[name]); err != nil {
			return err
		}
	}
	return nil
}

// keptViewer is the one that is kept; nil if there is none, or none that is good: its time has
// come, it is of another authority than the token, or the server knows nothing of it, or that
// it was revoked.
func (f *publishFlags) keptViewer(ctx context.Context, c *client.Client, token string) (*viewer, error) {
	v := readViewer(f.viewerDir, token)
	if v == nil || !time.Now().Before(v.due) {
		return nil, nil //nolint:nilnil // there need not be one
	}
	for known, err := range c.Certificates(ctx, viewerName) {
		if err != nil {
			return nil, fmt.Errorf("look for the viewer's certificate: %w", err)
		}
		if known.Serial == v.serial && known.Revoked.IsZero() {
			return v, nil
		}
	}
	return nil, nil //nolint:nilnil // see above
}

// readViewer reads what is kept; nil unless it is whole, and of the token's authority.
func readViewer(dir, token string) *viewer {
	if dir == "" {
		return nil
	}
	pair, err := auth.LoadPair(filepath.Join(dir, viewerCert), filepath.Join(dir, viewerKey))
	if err != nil {
		return nil
	}
	v := &viewer{files: map[string][]byte{}}
	for _, name := range []string{viewerKey, caFile, viewerCert} {
		if v.files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil
		}
	}
	ca, err := auth.ParseCertPEM(v.files[caFile])
	if err != nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil || leaf.CheckSignatureFrom(ca[0]) != nil {
		return nil
	}
	if t, err := auth.ParseToken(token); err != nil || t.Fingerprint != auth.Fingerprint(ca[0]) {
		return nil
	}
	v.serial, v.due = auth.Serial(leaf.SerialNumber), leaf.NotAfter.Add(viewerEvery-viewerLifetime)
	return v
}
