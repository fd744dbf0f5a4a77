package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
)

// archive gives the attempt the way to the package of its service; nil if it has none.
func (a *attempt) archive(of *client.Assignment) func(context.Context) (*os.File, error) {
	if a.spec.Service == nil || a.spec.Service.Package == nil {
		return nil
	}
	s := &stager{attempt: a, job: of.Job}
	return func(ctx context.Context) (f *os.File, err error) {
		err = s.persist(ctx, func() (err error) {
			f, err = s.openPackage(ctx, a.spec.Service.Package)
			return err
		})
		for _, theirs := range []error{navvy.ErrNotFound, navvy.ErrConflict, navvy.ErrInvalid, navvy.ErrCorrupt, navvy.ErrUnsupported, navvy.ErrDenied} {
			if errors.Is(err, theirs) {
				p := a.spec.Service.Package
				return nil, badPath("package %s of %s cannot be deployed: %v", p, p.Owner, err)
			}
		}
		return f, err
	}
}

// openPackage opens the archive of a package. With a cache it comes over the network once.
func (s *stager) openPackage(ctx context.Context, p *navvy.Package) (*os.File, error) {
	get := func(ctx context.Context, to io.Writer) error { return s.worker.server.GetPackage(ctx, s.ref, to) }
	cache, err := s.worker.staged.open(&s.worker.opts)
	if err != nil {
		return nil, err
	}
	if cache == nil {
		return fetched(ctx, p, get)
	}
	at, release, err := cache.Get(ctx, s.job.Owner, p.SHA256, -1, get)
	if err != nil {
		return nil, err
	}
	defer release() // who has it open can read it all the same when it is gone
	return os.Open(at)
}

// fetched is what get writes, as a file without a name. ErrCorrupt if it is not the
// package: its file may have been replaced since the server looked at it.
func fetched(ctx context.Context, p *navvy.Package, get func(context.Context, io.Writer) error) (*os.File, error) {
	f, err := os.CreateTemp("", "navvy-package-")
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	err = os.Remove(f.Name())
	if err == nil {
		err = get(ctx, io.MultiWriter(f, sum))
	}
	if got := hex.EncodeToString(sum.Sum(nil)); err == nil && got != p.SHA256 {
		err = fmt.Errorf("what came has SHA-256 %s, and not %s: %w", got, p.SHA256, navvy.ErrCorrupt)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fetch: %w", err), f.Close())
	}
	return f, nil
}
