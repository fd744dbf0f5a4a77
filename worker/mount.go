package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/runner/driver"
)

// Bounds of a folder that is copied for a task.
const (
	maxMountFiles = 10_000
	maxMountBytes = 100 << 30
	mountCopies   = 4 // at once
)

// folder is a folder that an attempt is to find.
type folder struct {
	from, to string
	mounted  bool // and not copied
}

// prefix is what the names of its files begin with.
func (f *folder) prefix() string {
	if f.from == "." {
		return ""
	}
	return f.from + "/"
}

// String names it in a message.
func (f *folder) String() string { return "share://default/" + strings.TrimSuffix(f.prefix(), "/") }

// Mounts implements driver.Stager: folders that this worker has in the share itself. The
// others are copied by Bring.
func (s *stager) Mounts(ctx context.Context) ([]driver.Mount, error) {
	folders, err := s.renderFolders()
	if err != nil {
		return nil, err
	}
	if err := s.apart(folders); err != nil {
		return nil, err
	}
	var list []driver.Mount
	for _, f := range folders {
		dir, err := s.share(ctx, f)
		if err != nil {
			return nil, err
		}
		if f.mounted = dir != ""; f.mounted {
			list = append(list, driver.Mount{Source: dir, Path: f.to})
		}
	}
	s.folders = folders
	return list, nil
}

// renderFolders gives the folders that the task is to find.
func (s *stager) renderFolders() ([]*folder, error) {
	folders := make([]*folder, len(s.spec.Stage.Mounts))
	for i, m := range s.spec.Stage.Mounts {
		f := &folder{}
		var err error
		if f.from, f.to, err = s.renderBoth(m.From, m.To); err != nil {
			return nil, err
		}
		folders[i] = f
	}
	return folders, nil
}

// apart refuses folders in one another, and files in them: what that means would be another
// thing where a folder is a copy, a link, or a mount.
func (s *stager) apart(folders []*folder) error {
	for i, f := range folders {
		for _, o := range folders[:i] {
			if within(f.to, o.to) || within(o.to, f.to) {
				return badPath("the task is to find the folders %s at %q and %s at %q: one cannot be in the other, or both the same", o, o.to, f, f.to)
			}
		}
	}
	for _, in := range s.spec.Stage.In {
		_, to, err := s.renderBoth(in.From, in.To)
		if err != nil {
			return err
		}
		for _, f := range folders {
			if within(to, f.to) || within(f.to, to) {
				return badPath("the task is to find a file at %q, and the folder %s at %q: nothing else can be put into a folder, or in its place", to, f, f.to)
			}
		}
	}
	return nil
}

// within tells whether a path is a folder's or below it.
func within(name, folder string) bool {
	return name == folder || strings.HasPrefix(name, folder+"/")
}

// share tells where a folder is in the share itself; empty if this worker cannot show it.
// One without anything in it fails the task, wherever it is.
func (s *stager) share(ctx context.Context, f *folder) (dir string, err error) {
	find := s.worker.opts.ShareFolder
	// Whose processes could look around in the share has copies.
	if find == nil || s.worker.opts.SingleOwner == "" && !s.spec.Isolate {
		return "", nil
	}
	// What attempts have left is published when it is asked for.
	files, err := s.list(ctx, f, 1)
	if err != nil {
		return "", err
	}
	if len(files) == 0 {
		return "", s.missing(f)
	}
	dir, err = find(s.worker.shareID(), s.job.Owner, strings.TrimSuffix(f.prefix(), "/"))
	if errors.Is(err, navvy.ErrConflict) {
		s.worker.doubt(err)
		return "", nil
	} else if err != nil {
		s.worker.log.Warn("a folder is not where this worker has the share, and is copied", "folder", f.String(), "owner", s.job.Owner, "error", err)
		return "", nil
	}
	return dir, nil
}

// shareID is what the server says that its share is known by.
func (w *Worker) shareID() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.share
}

// doubt says, once in a session, that this worker has another share than the server.
func (w *Worker) doubt(err error) {
	w.mu.Lock()
	said := w.doubted
	w.doubted = true
	w.mu.Unlock()
	if !said {
		w.log.Warn("this worker does not have the server's share, and copies what tasks are to find", "error", err)
	}
}

func (s *stager) missing(f *folder) error {
	return badPath("there is no folder %s of %s with anything in it, which the task is to find at %s", f, s.job.Owner, f.to)
}

// list gives the files of a folder, as many as there are or some more than most.
func (s *stager) list(ctx context.Context, f *folder, most int) (files []client.File, err error) {
	err = s.persist(ctx, func() error {
		files = nil
		for file, err := range s.worker.server.ListFiles(ctx, s.ref, f.prefix()) {
			if err != nil {
				return err
			}
			if files = append(files, file); len(files) > most {
				return nil
			}
		}
		return nil
	})
	if errors.Is(err, navvy.ErrInvalid) {
		return nil, badPath("the task is to find the folder %s: %v", f, err)
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", f, err)
	}
	return files, nil
}

// bringFolders copies the folders that are not mounted.
func (s *stager) bringFolders(ctx context.Context, root *os.Root) error {
	for _, f := range s.folders {
		if f.mounted {
			continue
		}
		if err := s.bringFolder(ctx, root, f); err != nil {
			return err
		}
	}
	return nil
}

func (s *stager) bringFolder(ctx context.Context, root *os.Root, f *folder) error {
	files, err := s.list(ctx, f, maxMountFiles)
	if err != nil {
		return err
	}
	sum := int64(0)
	for i := range files {
		sum += files[i].Size
	}
	switch {
	case len(files) == 0:
		return s.missing(f)
	case len(files) > maxMountFiles || sum > maxMountBytes:
		return badPath("the folder %s has more than %d files or %d bytes, and no more are copied for a task", f, maxMountFiles, int64(maxMountBytes))
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(mountCopies)
	for i := range files {
		key := files[i].Key
		g.Go(func() error {
			return s.bring(ctx, root, key, path.Join(f.to, strings.TrimPrefix(key, f.prefix())))
		})
	}
	return g.Wait()
}
