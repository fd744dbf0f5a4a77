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
	var list []driver.Mount
	s.folders = nil
	for _, m := range s.spec.Stage.Mounts {
		f := &folder{}
		var err error
		if f.from, err = s.render(m.From, false); err != nil {
			return nil, err
		}
		f.to = f.from
		if m.To != "" {
			if f.to, err = s.render(m.To, false); err != nil {
				return nil, err
			}
		}
		if f.to == "." {
			return nil, badPath("%q is the working directory itself with this input", m.To)
		}
		dir, err := s.share(ctx, f)
		if err != nil {
			return nil, err
		}
		if f.mounted = dir != ""; f.mounted {
			list = append(list, driver.Mount{Source: dir, Path: f.to})
		}
		s.folders = append(s.folders, f)
	}
	return list, nil
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
	dir, err = find(s.job.Owner, strings.TrimSuffix(f.prefix(), "/"))
	if err != nil {
		s.worker.log.Warn("a folder is not where this worker has the share, and is copied", "folder", f.String(), "owner", s.job.Owner, "error", err)
		return "", nil
	}
	return dir, nil
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
