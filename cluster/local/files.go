package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/work"
	"github.com/navvy-run/navvy/parcel"
)

// tree is what a service finds in its working directory: the files that are shared, and its
// package. With a server it travels as one package, else it lies in the cluster's directory.
type tree struct {
	items []treeItem
	sum   string // of all that is in it
}

// treeItem is a file or a directory of this machine that is a part of it.
type treeItem struct {
	key     string // of the file of the cluster
	from    string
	at      string // with slashes; empty for all of the tree
	archive bool   // to be unpacked
	sum     string
}

// addPackage adds the package of the service, if it is files of this machine.
func (t *tree) addPackage(c *config.Cluster) error {
	name := c.Service.Package
	if name == "" {
		return nil
	}
	at := work.Beside(c, name)
	info, err := os.Stat(at)
	_, named := navvy.ParsePackage(name)
	switch {
	case err == nil:
		t.items = append(t.items, treeItem{key: "service.package", from: at, archive: !info.IsDir()})
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("service.package: %w", err)
	case named != nil:
		return fmt.Errorf("service.package: %s is neither there nor NAME@VERSION: %w", at, navvy.ErrInvalid)
	case len(c.Share) > 0:
		return fmt.Errorf("service.package: %s cannot have files of share beside it: name a directory or an archive: %w", name, navvy.ErrUnsupported)
	}
	return nil
}

// newTree looks at all that a service is to find; nil if it is nothing.
func (d *Driver) newTree(ctx context.Context, c *config.Cluster) (*tree, error) {
	t := &tree{}
	if err := t.addPackage(c); err != nil {
		return nil, err
	}
	for i := range c.Share {
		key := fmt.Sprintf("share[%d]", i)
		at := path.Clean(filepath.ToSlash(c.Share[i].At))
		if c.Share[i].At == "" || path.IsAbs(at) || at == ".." || strings.HasPrefix(at, "../") {
			return nil, fmt.Errorf("%s.at: %q, want a path below the working directory of the service: %w", key, c.Share[i].At, navvy.ErrInvalid)
		}
		if at == "." {
			at = ""
		}
		from := work.Beside(c, c.Share[i].From)
		if _, err := os.Stat(from); err != nil {
			return nil, fmt.Errorf("%s.from: %w: %w", key, err, navvy.ErrInvalid)
		}
		t.items = append(t.items, treeItem{key: key, from: from, at: at})
	}
	if len(t.items) == 0 {
		return nil, nil //nolint:nilnil // there is nothing to be found
	}
	all := sha256.New()
	for i := range t.items {
		one := sha256.New()
		if err := sumTree(ctx, one, t.items[i].from); err != nil {
			return nil, fmt.Errorf("%s: %w", t.items[i].key, err)
		}
		t.items[i].sum = hex.EncodeToString(one.Sum(nil))
		note(all, "%q %t %s\n", t.items[i].at, t.items[i].archive, t.items[i].sum)
	}
	t.sum = hex.EncodeToString(all.Sum(nil))
	return t, nil
}

// note adds a line to a sum.
func note(sum hash.Hash, format string, args ...any) {
	_, _ = fmt.Fprintf(sum, format, args...) // it never fails
}

// sumTree adds up what is in a file or a directory: names, contents, links, and whether a
// file can be executed.
func sumTree(ctx context.Context, sum hash.Hash, root string) error {
	return walk(root, func(name string, info fs.FileInfo) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		at := filepath.Join(root, name)
		switch {
		case info.IsDir():
			note(sum, "d %q\n", name)
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(at)
			note(sum, "l %q %q\n", name, to)
			return err
		default:
			note(sum, "f %q %t %d\n", name, info.Mode()&0o111 != 0, info.Size())
			f, err := os.Open(at)
			if err != nil {
				return err
			}
			_, err = io.Copy(sum, f)
			return errors.Join(err, f.Close())
		}
		return nil
	})
}

// walk goes through what is in a file or a directory; the root is "." and may be a link.
func walk(root string, fn func(name string, info fs.FileInfo) error) error {
	info, err := os.Stat(root)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fn(".", info)
	}
	return filepath.WalkDir(root+string(filepath.Separator), func(at string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, at)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if mode := info.Mode(); !mode.IsDir() && !mode.IsRegular() && mode&fs.ModeSymlink == 0 {
			return fmt.Errorf("%s is no file, directory or link: %w", at, navvy.ErrInvalid)
		}
		return fn(name, info)
	})
}

// short is the sum as people are shown it.
func (t *tree) short() string { return "sha256:" + t.sum[:16] }

func (t *tree) properties(server bool) driver.Properties {
	p := driver.Properties{"contents": t.short(), "kept as": "directory"}
	if server {
		p["kept as"] = "package"
	}
	for i := range t.items {
		at := "/" + t.items[i].at
		p["at "+at] = t.items[i].from + " sha256:" + t.items[i].sum[:16]
	}
	return p
}

// pkg is the package of a cluster that has the tree in it.
func (t *tree) pkg(cluster string) navvy.Package {
	return navvy.Package{Name: "cluster-" + cluster, Version: t.sum[:16]}
}

// build makes the tree in a directory that is not there yet.
func (t *tree) build(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // services may run as other users
		return err
	}
	for i := range t.items {
		it := &t.items[i]
		if err := it.build(ctx, filepath.Join(dir, filepath.FromSlash(it.at))); err != nil {
			return fmt.Errorf("%s: %w", it.key, err)
		}
	}
	return nil
}

func (it *treeItem) build(ctx context.Context, to string) error {
	if it.archive {
		f, err := os.Open(it.from)
		if err != nil {
			return err
		}
		defer f.Close()
		part := to + ".unpacked" // it wants to make its directory
		if _, err = parcel.Unpack(ctx, f, part, &parcel.Options{Writable: true}); err == nil {
			err = copyTree(ctx, part, to)
		}
		return errors.Join(err, parcel.Remove(part))
	}
	return copyTree(ctx, it.from, to)
}

// copyTree copies a file or a directory to where there may be others.
func copyTree(ctx context.Context, from, to string) error {
	return walk(from, func(name string, info fs.FileInfo) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		source, target := filepath.Join(from, name), filepath.Join(to, name)
		switch {
		case info.IsDir():
			return os.MkdirAll(target, 0o755) //nolint:gosec // services may run as other users
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(source)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil { //nolint:gosec // likewise
			return err
		}
		return copyFile(source, target, info.Mode())
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	perm := fs.FileMode(0o644)
	if mode&0o111 != 0 {
		perm = 0o755
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("two files would be %s: %w", filepath.Base(to), navvy.ErrInvalid)
	} else if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// filesPart is the tree that services find.
type filesPart struct {
	tree   *tree
	server bool
}

func (p *filesPart) put(ctx context.Context, s *site, _ *driver.Resource) (err error) {
	if err := makeDir(s.path(filesDir)); err != nil {
		return err
	}
	if err := dropBegun(s.path(filesDir)); err != nil {
		return err
	}
	dir := s.filesAt(p.tree.short())
	if !p.server {
		delete(s.record.Data, "package")
		if _, err := os.Stat(dir); err == nil {
			return s.dropFiles(p.tree.short())
		}
	}
	part, err := os.MkdirTemp(s.path(filesDir), begunPrefix+"*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parcel.Remove(part)) }()
	built := filepath.Join(part, "tree")
	if err := p.tree.build(ctx, built); err != nil {
		return err
	}
	if p.server {
		return p.upload(ctx, s, built, filepath.Join(part, "packed"))
	}
	if err := settle(built); err != nil { // as its name says that it is whole
		return err
	}
	if err := os.Rename(built, dir); err != nil {
		return err
	}
	if err := settle(s.path(filesDir)); err != nil {
		return err
	}
	return s.dropFiles(p.tree.short())
}

// settle makes all durable that was written to the file system of a directory: a tree may
// have very many files.
func settle(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err = unix.Syncfs(int(d.Fd())); err != nil {
		err = fmt.Errorf("%s: sync: %w", dir, err)
	}
	return errors.Join(err, d.Close())
}

// filesAt is where the tree of a sum lies in the cluster's directory.
func (s *site) filesAt(short string) string {
	return s.path(filesDir, strings.TrimPrefix(short, "sha256:"))
}

// dropFiles removes trees that no worker works in any more.
func (s *site) dropFiles(now string) error {
	used := map[string]bool{filepath.Base(s.filesAt(now)): true}
	list, err := s.all()
	if err != nil {
		return err
	}
	for _, m := range list {
		if files := m.Data["files"]; m.ID.Kind == kindWorker && files != "" {
			used[filepath.Base(s.filesAt(files))] = true
		}
	}
	entries, err := os.ReadDir(s.path(filesDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !used[e.Name()] && !begun(e) {
			err = errors.Join(err, parcel.Remove(s.path(filesDir, e.Name())))
		}
	}
	return err
}

// upload puts the tree into the server's files, as a package.
func (p *filesPart) upload(ctx context.Context, s *site, built, packed string) error {
	f, err := os.OpenFile(packed, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := parcel.Pack(ctx, io.MultiWriter(f, sum), built, nil); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	pkg := p.tree.pkg(s.name)
	return s.withServer(ctx, func(c *client.Client) error {
		_, err := c.Files().Put(ctx, pkg.File(), f, client.PutFileOptions{SHA256: hex.EncodeToString(sum.Sum(nil)), IfAbsent: true})
		if errors.Is(err, navvy.ErrExists) {
			err = nil // its name has its contents
		}
		s.record.Data["package"] = pkg.String()
		return err
	})
}

// removeFiles removes what was shared: packages go with the server that has them.
func (s *site) removeFiles(ctx context.Context) error {
	if s.record.Data["package"] != "" {
		err := s.withServer(ctx, func(c *client.Client) error { return removePackages(ctx, c, "cluster-"+s.name) })
		if err = s.withoutServer(err); err != nil {
			return err
		}
	}
	return parcelRemove(s.path(filesDir))
}

func removePackages(ctx context.Context, c *client.Client, name string) error {
	var keys []string
	for f, err := range c.Files().List(ctx, navvy.PackagesFolder+name+"/") {
		if err != nil {
			return err
		}
		keys = append(keys, f.Key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if err := c.Files().Remove(ctx, key); err != nil && !errors.Is(err, navvy.ErrNotFound) {
			return err
		}
	}
	return nil
}

// parcelRemove removes a directory whose files may be read-only; nil if it is not there.
func parcelRemove(dir string) error {
	err := parcel.Remove(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
