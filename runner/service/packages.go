package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/parcel"
	"github.com/navvy-run/navvy/runner/driver"
)

// trees are the packages that are deployed for services that are open: each once for all
// of its owner's. They are unpacked when a service is opened and go with the last one, so
// that there is nothing to be kept in order: what a crash leaves goes before the first.
type trees struct {
	dir string // of this driver alone; empty: there is no place for any

	mu    sync.Mutex
	clean bool
	count int
	byKey map[string]*tree
}

// tree is one deployed package.
type tree struct {
	path  string
	came  chan struct{} // closed when it is there, or could not be deployed
	err   error         // then: why not
	users int           // the trees'
}

// take gives the package of a key, unpacked from what open opens if it is not there yet.
// Until give it stays as it is.
func (s *trees) take(ctx context.Context, key string, open func(context.Context) (*os.File, error)) (*tree, error) {
	for {
		t, mine, err := s.enter(key)
		if err != nil {
			return nil, err
		}
		if mine {
			t.err = deploy(ctx, t.path, open)
			close(t.came)
		}
		select {
		case <-t.came:
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), s.give(key, t))
		}
		if t.err == nil {
			return t, nil
		}
		err = errors.Join(t.err, s.give(key, t))
		if mine || !errors.Is(err, context.Canceled) || ctx.Err() != nil {
			return nil, err
		} // whoever deployed it has given up: it is our turn
	}
}

// enter finds a package that is deployed, or about to be, or else begins with it.
func (s *trees) enter(key string) (t *tree, mine bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.byKey[key]; t != nil {
		t.users++
		return t, false, nil
	}
	if s.dir == "" {
		return nil, false, fmt.Errorf("there is no place for packages here: %w", navvy.ErrUnsupported)
	}
	if !s.clean {
		if err := errors.Join(parcel.Remove(s.dir), os.MkdirAll(s.dir, 0o700)); err != nil {
			return nil, false, err
		}
		s.clean, s.byKey = true, map[string]*tree{}
	}
	s.count++
	t = &tree{path: filepath.Join(s.dir, strconv.Itoa(s.count)), came: make(chan struct{}), users: 1}
	s.byKey[key] = t
	return t, true, nil
}

// deploy unpacks an archive.
func deploy(ctx context.Context, path string, open func(context.Context) (*os.File, error)) error {
	archive, err := open(ctx)
	if err != nil {
		return err
	}
	_, err = parcel.Unpack(ctx, archive, path, nil)
	return errors.Join(err, archive.Close())
}

// give gives back what take gave; the last one removes it. One that could not be deployed
// is nobody's from then on.
func (s *trees) give(key string, t *tree) error {
	s.mu.Lock()
	t.users--
	last := t.users == 0
	select {
	case <-t.came:
		if (last || t.err != nil) && s.byKey[key] == t {
			delete(s.byKey, key)
		}
	default: // somebody is still at work on it, and counted
	}
	s.mu.Unlock()
	if !last {
		return nil
	}
	return parcel.Remove(t.path)
}

// close removes all that is left, when nothing runs any more.
func (s *trees) close() error {
	if s.dir == "" {
		return nil
	}
	return parcel.Remove(s.dir)
}

// deployed is a service that runs from its package.
type deployed struct {
	Service
	give func() error
}

// Close implements Service. What could not be ended may still need its package.
func (d *deployed) Close(ctx context.Context) error {
	if err := d.Service.Close(ctx); err != nil {
		return err
	}
	return d.give()
}

// openPackaged opens an instance that runs from its package.
func (d *Driver) openPackaged(ctx context.Context, t *driver.Task) (Service, error) {
	p, key := t.Spec.Service.Package, d.treeKey(t)
	if Program(t.Spec.Service.Form) == "" {
		return nil, &driver.Refusal{Reason: navvy.ReasonStart, Message: fmt.Sprintf("package %s is for a service that is a program, and %.100q is none", p, t.Spec.Service.Form)}
	}
	if t.Package == nil {
		return nil, &driver.Refusal{Reason: navvy.ReasonStart, Message: fmt.Sprintf("package %s: there is nobody here who has it", p)}
	}
	tree, err := d.trees.take(ctx, key, t.Package)
	if err != nil {
		return nil, packageError(p, err)
	}
	d.log.Debug("package deployed", "package", p.String(), "of", p.Owner, "owner", t.Owner, "directory", tree.path)
	s, err := d.openIn(ctx, t, tree.path)
	if err != nil {
		return nil, errors.Join(err, d.trees.give(key, tree))
	}
	return &deployed{s, sync.OnceValue(func() error { return d.trees.give(key, tree) })}, nil
}

// treeKey names what services share a tree: those of an owner with the same package. One
// that nothing keeps from writing, as root and not isolated, has a copy of its own.
func (d *Driver) treeKey(t *driver.Task) string {
	key := t.Owner + "\x00" + t.Spec.Service.Package.SHA256
	if os.Geteuid() == 0 && !t.Spec.Isolate {
		key += "\x00" + strconv.FormatInt(d.count.Add(1), 10)
	}
	return key
}

// packageError tells whose fault it is that a package cannot be deployed: that of whoever
// has made it, or the host's, which another one may not have.
func packageError(p *navvy.Package, err error) error {
	if refusal, ok := errors.AsType[*driver.Refusal](err); ok {
		return refusal
	}
	message := navvy.Shorten(fmt.Sprintf("package %s of %s: %v", p, p.Owner, err))
	if errors.Is(err, navvy.ErrInvalid) || errors.Is(err, navvy.ErrCorrupt) {
		return &driver.Refusal{Reason: navvy.ReasonInput, Message: message}
	}
	return &driver.Away{Message: message}
}
