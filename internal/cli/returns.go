package cli

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/RoaringBitmap/roaring/v2"
	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
)

// returning brings here what the tasks of a job leave for whoever waits for it (--return),
// as they end, each file whole or not at all. What was asked for is in the job. What is
// here already is what counts as printed: an answer does when its files are here, so that
// navvy resume, anywhere, brings what is missing. Its methods may be called at once.
type returning struct {
	app    *app
	id     navvy.JobID
	stage  *navvy.Stage
	root   *os.Root // the current directory, which no link leads out of
	again  bool     // somebody may have begun, and was killed
	halves string   // what the names of files on their way begin with

	mu      sync.Mutex
	changed chan struct{}   // closed at each change
	here    *roaring.Bitmap // tasks whose files are here
	missed  *roaring.Bitmap // tasks whose files cannot be
	over    bool            // no more come, over this connection
	cut     bool            // nobody wanted to wait any more
	files   int             // so many could not be copied
	err     error           // why the first of them
	swept   map[string]bool // folders without halves
}

// returnsAtOnce is of how many tasks files are copied at once.
const returnsAtOnce = 4

// newReturning makes what brings the files of a job; nil if there are none to bring.
func (a *app) newReturning(job *navvy.Job, again bool) (*returning, error) {
	stage := &job.Spec.Stage
	if stage.Transfer == "" || !stage.Returns() && !stage.Cleanup {
		return nil, nil //nolint:nilnil // there is nothing to bring
	}
	root, err := os.OpenRoot(".")
	if err != nil {
		return nil, err
	}
	return &returning{
		app: a, id: job.ID, stage: stage, root: root, again: again, halves: ".navvy-" + stage.Transfer + "-",
		changed: make(chan struct{}), here: roaring.New(), missed: roaring.New(), swept: map[string]bool{},
	}, nil
}

// close ends the use of the directory.
func (r *returning) close() {
	if r != nil {
		_ = r.root.Close() // it was only named by
	}
}

// run brings files as tasks end, until the job rests, or hurry ends.
func (r *returning) run(ctx, hurry context.Context, c *conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(hurry, cancel)()
	r.set(func() { r.over = false })
	err := r.follow(ctx, c)
	r.set(func() {
		r.over = true
		r.cut = err != nil && hurry.Err() != nil
	})
	if hurry.Err() != nil {
		return nil
	}
	return err
}

// follow brings the files of tasks that nobody has brought before.
func (r *returning) follow(ctx context.Context, c *conn) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(returnsAtOnce)
	var err error
	o := client.ResultsOptions{Follow: true, AsCompleted: true, Unprinted: true}
	for batch, batchErr := range c.ResultBatches(ctx, r.id, o) {
		if err = batchErr; err != nil {
			break
		}
		for i := range batch {
			index := batch[i].Task.Index
			if done, _ := r.settled(index); done {
				continue
			}
			if batch[i].State != navvy.Succeeded {
				r.settle(index, nil)
				continue
			}
			g.Go(func() error { return r.task(ctx, c, index) })
		}
	}
	if groupErr := g.Wait(); groupErr != nil {
		return groupErr
	}
	return err
}

// task brings the files of one task. Its error is one of the connection; what is wrong with
// a file is told, and others go on.
func (r *returning) task(ctx context.Context, c *conn, index int64) error {
	prefix := r.stage.ReturnFolder() + strconv.FormatInt(index+1, 10) + "/"
	var failed error
	for file, err := range c.Files().List(ctx, prefix) {
		name := strings.TrimPrefix(file.Key, prefix)
		if err == nil {
			err = r.bring(ctx, c.Files(), &file, name, true)
		}
		if err != nil && (ctx.Err() != nil || c.lost(err)) {
			return err
		}
		if err != nil {
			r.tell(fmt.Errorf("copy %s of task %s/%d here: %w", name, r.id, index, err))
			failed = err
		}
	}
	r.settle(index, failed)
	return nil
}

// absent brings what is not here, of all tasks: they were brought before, maybe elsewhere.
func (r *returning) absent(ctx context.Context, c *conn) error {
	prefix := r.stage.ReturnFolder()
	for file, err := range c.Files().List(ctx, prefix) {
		_, name, _ := strings.Cut(strings.TrimPrefix(file.Key, prefix), "/")
		if err == nil {
			err = r.bring(ctx, c.Files(), &file, name, false)
		}
		if err != nil && (ctx.Err() != nil || c.lost(err)) {
			return err
		}
		if err != nil {
			r.tell(fmt.Errorf("copy %s here: %w", name, err))
		}
	}
	return nil
}

// bring writes a file below this directory, if it is not there as it is. With replace what
// is there otherwise goes.
func (r *returning) bring(ctx context.Context, files client.Files, file *client.File, name string, replace bool) error {
	if !fs.ValidPath(name) {
		return fmt.Errorf("%q is no path below this directory: %w", name, navvy.ErrInvalid)
	}
	info, err := r.root.Lstat(name)
	switch {
	case err == nil && !replace:
		return nil
	case err == nil && info.Mode().IsRegular() && info.Size() == file.Size:
		if same, err := r.same(ctx, files, file.Key, name); same || err != nil {
			return err
		}
	}
	return localKind(r.fetch(ctx, files, file.Key, name))
}

// same tells whether a file here holds what the server's does.
func (r *returning) same(ctx context.Context, files client.Files, key, name string) (bool, error) {
	there, err := files.Stat(ctx, key)
	if err != nil || there.SHA256 == "" {
		return false, err
	}
	f, err := r.root.Open(name)
	if err != nil {
		return false, nil //nolint:nilerr // it is replaced
	}
	defer f.Close()
	digest := sha256.New()
	_, err = io.Copy(digest, f)
	return err == nil && hex.EncodeToString(digest.Sum(nil)) == there.SHA256, nil
}

// fetch writes a file: beside its place first, so that it is whole there, and durable.
func (r *returning) fetch(ctx context.Context, files client.Files, key, name string) (err error) {
	folder := filepath.Dir(name)
	if err := r.root.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	if err := r.sweep(folder); err != nil {
		return err
	}
	half := filepath.Join(folder, r.halves+rand.Text()[:12])
	w, err := r.root.OpenFile(half, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = r.root.Remove(half) // it may have its name by now
		}
	}()
	_, err = files.Get(ctx, key, w)
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	if err := r.root.Rename(half, name); err != nil {
		return err
	}
	d, err := r.root.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sweep removes from a folder, once, what a killed navvy has left of files of this job.
func (r *returning) sweep(folder string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.again || r.swept[folder] {
		return nil
	}
	r.swept[folder] = true
	d, err := r.root.Open(folder)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		list, err := d.ReadDir(1000)
		for _, e := range list {
			if strings.HasPrefix(e.Name(), r.halves) {
				if err := r.root.Remove(filepath.Join(folder, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// localKind gives an error of a file here its sentinel.
func localKind(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", err, navvy.ErrExhausted)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", err, navvy.ErrDenied)
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %w", err, navvy.ErrConflict) // a folder is where a file is to be
	}
	return err
}

// set changes what is guarded, and wakes who waits.
func (r *returning) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	close(r.changed)
	r.changed = make(chan struct{})
}

// settle notes that a task's files are here, or why not all of them.
func (r *returning) settle(index int64, err error) {
	r.set(func() {
		if err != nil {
			r.missed.Add(uint32(index))
		} else {
			r.here.Add(uint32(index))
		}
	})
}

// toldFiles is of how many files it is told why they could not be copied.
const toldFiles = 5

// tell tells why a file could not be copied.
func (r *returning) tell(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files++; r.files <= toldFiles {
		r.app.complain(err)
	}
	if r.err == nil {
		r.err = err
	}
}

// settled tells whether a task's files are here, or cannot be; else when to ask again, nil
// if there is no use.
func (r *returning) settled(index int64) (done bool, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.here.Contains(uint32(index)) || r.missed.Contains(uint32(index)):
		return true, nil
	case r.over:
		return false, nil
	}
	return false, r.changed
}

// errNotHere says that the files of an answer are not waited for any longer.
var errNotHere = fmt.Errorf("what its tasks left is not all here: %w", navvy.ErrUnavailable)

// await waits until the files of a task are here, or cannot be, and tells which.
func (r *returning) await(ctx context.Context, index int64) (here bool, err error) {
	for {
		done, changed := r.settled(index)
		switch {
		case done:
			return r.isHere(index), nil
		case changed == nil:
			return false, errNotHere
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-changed:
		}
	}
}

// isHere tells whether all files of a task are.
func (r *returning) isHere(index int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.here.Contains(uint32(index))
}

// among gives those of the tasks whose files are here.
func (r *returning) among(tasks *roaring.Bitmap) *roaring.Bitmap {
	r.mu.Lock()
	defer r.mu.Unlock()
	return roaring.And(tasks, r.here)
}

// complete tells whether all files are here that there were to bring.
func (r *returning) complete() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.cut && r.files == 0 && r.missed.IsEmpty()
}

// cleanUp removes what was copied for the job, if that was asked for and nobody needs it
// any more: a task that has not succeeded may be retried.
func (r *returning) cleanUp(ctx context.Context, c *conn) error {
	if !r.stage.Cleanup {
		return nil
	}
	job, err := c.Get(ctx, r.id)
	if err != nil {
		return err
	}
	if job.Status.State() != navvy.Succeeded {
		return nil
	}
	return removeCopied(ctx, c.Files(), r.stage)
}

// verdict is the error with which navvy ends: that of the job, unless it has none, and not
// all files are here.
func (r *returning) verdict(err error, interrupted int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.files > 0:
		failed := withHint(fmt.Errorf("%s could not be copied here", count(int64(r.files), "file")), "%s", r.app.goOn("when that is mended, navvy resume %s brings them", r.id))
		if err == nil {
			return &exitError{exitCode(r.err), failed}
		}
		r.app.complain(failed)
	case r.cut && err == nil:
		r.app.tell("navvy: what the tasks of job %s left is not all here\n%s\n", r.id, r.app.goOn("resume with: navvy resume %s", r.id))
		return &exitError{code: interrupted}
	}
	return err
}
