package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path"
	"slices"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/input"
)

// filesAtOnce is how many files are read, or copied, at once.
const filesAtOnce = 4

// upload copies the files that the tasks of a job are to find to the server, until a signal
// ends it. What the server has already, of an earlier job or of this one under another
// name, is not sent again.
func (a *app) upload(ctx context.Context, m *mapFlags, job *navvy.Job, in *input.Reader) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := a.uploading(ctx, m, job, in)
	if err != nil && ctx.Err() != nil {
		return &exitError{api.ExitInterrupted, errors.New("interrupted before the job was accepted")}
	}
	return err
}

func (a *app) uploading(ctx context.Context, m *mapFlags, job *navvy.Job, in *input.Reader) error {
	names := map[string]bool{}
	for _, name := range m.moved.base {
		names[path.Clean(name)] = true
	}
	if err := m.moved.transferred(ctx, job.Spec.Command, in, names); err != nil {
		return err
	}
	u := &uploader{list: make([]upload, len(names)), bar: a.newCopyBar(&copyFlags{quiet: m.quiet, progress: m.progress})}
	for i, name := range slices.Sorted(maps.Keys(names)) {
		u.list[i].name = name
	}
	defer u.bar.end()
	if err := u.look(ctx); err != nil {
		return err
	}
	u.folder = job.Spec.Stage.TransferFolder()
	if len(u.list) == 0 {
		return nil
	}
	return a.with(ctx, needLook, func(conn *conn) error { return u.send(ctx, conn.Files()) })
}

// uploader copies files to the server.
type uploader struct {
	list   []upload
	folder string // among the owner's files, with a slash at its end
	bar    *copyBar
}

// upload is a file that is to be copied.
type upload struct {
	name string
	size int64
	sum  string
}

// look reads all files, to know what they hold.
func (u *uploader) look(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(filesAtOnce)
	for i := range u.list {
		g.Go(func() (err error) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			f := &u.list[i]
			r, err := os.Open(f.name)
			if err != nil {
				return err
			}
			defer r.Close()
			digest := sha256.New()
			f.size, err = io.Copy(digest, stoppable{ctx, r})
			f.sum = hex.EncodeToString(digest.Sum(nil))
			u.bar.expect(1, f.size)
			return err
		})
	}
	return g.Wait()
}

// stoppable reads until a context ends.
type stoppable struct {
	ctx context.Context //nolint:containedctx // of the one reading
	r   io.Reader
}

func (s stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// send copies the files, those of one content one after the other: the first one is sent,
// if the server does not have it, and the others are made of it there.
func (u *uploader) send(ctx context.Context, files client.Files) error {
	same := map[string][]*upload{}
	for i := range u.list {
		f := &u.list[i]
		same[f.sum] = append(same[f.sum], f)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(filesAtOnce)
	for _, list := range same {
		g.Go(func() error {
			for _, f := range list {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err := u.put(ctx, files, f); err != nil {
					return fmt.Errorf("copy %s to the server: %w", f.name, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (u *uploader) put(ctx context.Context, files client.Files, f *upload) error {
	_, err := files.PutKnown(ctx, u.folder+f.name, f.sum)
	if err == nil {
		u.bar.add(f.size, 1)
		return nil
	}
	if !errors.Is(err, navvy.ErrNotFound) && !errors.Is(err, navvy.ErrUnsupported) {
		return err
	}
	r, err := os.Open(f.name)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = files.Put(ctx, u.folder+f.name, &counted{stoppable{ctx, r}, u.bar}, client.PutFileOptions{SHA256: f.sum})
	if errors.Is(err, navvy.ErrCorrupt) {
		return fmt.Errorf("it has changed while it was read: %w", navvy.ErrConflict)
	}
	u.bar.add(0, 1)
	return err
}

// counted shows how much was read.
type counted struct {
	r   io.Reader
	bar *copyBar
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.bar.add(int64(n), 0)
	return n, err
}

// removeUploaded removes what was copied for a job that was not accepted.
func (a *app) removeUploaded(ctx context.Context, s *navvy.Stage) error {
	return a.with(ctx, needLook, func(c *conn) error { return removeCopied(ctx, c.Files(), s) })
}

// removeUnused removes what was copied for a job if there was one already with its
// idempotency key: that has files of its own.
func (a *app) removeUnused(ctx context.Context, id navvy.JobID, s *navvy.Stage) error {
	return a.with(ctx, needLook, func(c *conn) error {
		job, err := c.Get(ctx, id)
		if err != nil || job.Spec.Stage.Transfer == s.Transfer {
			return nil //nolint:nilerr // what it was about is over, and nothing is lost
		}
		return removeCopied(ctx, c.Files(), s)
	})
}

// removeCopied removes what was copied for a job, and what its tasks have left to be copied.
func removeCopied(ctx context.Context, files client.Files, s *navvy.Stage) error {
	for _, folder := range []string{s.TransferFolder(), s.ReturnFolder()} {
		var keys []string
		for file, err := range files.List(ctx, folder) {
			if err != nil {
				return err
			}
			keys = append(keys, file.Key)
		}
		for _, key := range keys {
			if err := files.Remove(ctx, key); err != nil && !errors.Is(err, navvy.ErrNotFound) {
				return err
			}
		}
	}
	return nil
}
