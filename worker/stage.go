package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/placeholder"
	"github.com/navvy-run/navvy/runner/driver"
)

// Cache keeps files by what they hold, for each owner: a *share.Cache. Its methods may be
// called at once.
type Cache interface {
	// Get gives where the file of that SHA-256 is, for reading only, until release is called.
	// If it is not there fetch writes it, for all who ask meanwhile.
	Get(ctx context.Context, owner, sha256 string, size int64, fetch func(ctx context.Context, w io.Writer) error) (path string, release func(), err error)
	Close() error
}

// stagedFiles are those that this worker has fetched before, if it has a directory.
type stagedFiles struct {
	mu    sync.Mutex
	cache Cache // nil until it is used
}

// cacheDir is the directory of the cache in the worker's own.
const cacheDir = "files"

// open gives the cache; nil for a worker that has none.
func (f *stagedFiles) open(o *Options) (Cache, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cache != nil || o.Dir == "" || o.OpenCache == nil {
		return f.cache, nil
	}
	c, err := o.OpenCache(filepath.Join(o.Dir, cacheDir))
	if err == nil {
		f.cache = c
	}
	return c, err
}

func (f *stagedFiles) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cache == nil {
		return nil
	}
	return f.cache.Close()
}

// stager stages the files of an attempt.
type stager struct {
	*attempt
	job    *client.WorkJob
	input  []byte
	number int64

	folders []*folder // once Mounts has found them
}

// files gives the attempt what stages its files; nil if it has none.
func (a *attempt) files(of *client.Assignment) driver.Stager {
	if a.spec.Stage.Zero() {
		return nil
	}
	return &stager{attempt: a, job: of.Job, input: of.Input, number: of.Task.Index + 1}
}

// badPath says that a path of a staged file is none for this input.
func badPath(format string, a ...any) error {
	return &driver.Refusal{Reason: navvy.ReasonInput, Message: fmt.Sprintf(format, a...)}
}

// escape makes the characters of a text stand for themselves in a pattern.
var escape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// render puts the input into a path, or into a pattern.
func (s *stager) render(text string, pattern bool) (string, error) {
	out := text
	if c := s.spec.Command; !c.Literal {
		template, err := placeholder.Parse([]string{text}, placeholder.Options{Columns: c.Columns, Stdin: true})
		if err != nil {
			return "", badPath("the path of a staged file: %v", err)
		}
		fields, err := s.job.Format.Fields(s.input)
		if err != nil {
			return "", badPath("%v", err)
		}
		if pattern {
			for i := range fields {
				fields[i] = escape.Replace(fields[i])
			}
		}
		list, err := template.Render(nil, placeholder.Values{Fields: fields, Seq: s.number, Slot: s.slot})
		if err != nil {
			return "", badPath("%v", err)
		}
		out = list[0]
	}
	clean := path.Clean(out)
	if !fs.ValidPath(clean) || strings.HasSuffix(out, "/") && !pattern {
		return "", badPath("%q is %q with this input: the path of a staged file is relative, and leads neither to nor out of the working directory itself", text, out)
	}
	return clean, nil
}

// renderBoth gives the name of what is staged among the owner's files, and its path in the
// working directory, which is the same if none is given.
func (s *stager) renderBoth(from, to string) (name, at string, err error) {
	if name, err = s.render(from, false); err != nil {
		return "", "", err
	}
	at = name
	if to != "" {
		at, err = s.render(to, false)
	}
	if err == nil && at == "." {
		err = badPath("%q is the working directory itself with this input", cmp.Or(to, from))
	}
	return name, at, err
}

// Bring implements driver.Stager.
func (s *stager) Bring(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := s.bringFolders(ctx, root); err != nil {
		return err
	}
	for _, in := range s.spec.Stage.In {
		from, to, err := s.renderBoth(in.From, in.To)
		if err != nil {
			return err
		}
		if err := s.bring(ctx, root, from, to); err != nil {
			return err
		}
	}
	return nil
}

// bring puts one file into the directory.
func (s *stager) bring(ctx context.Context, root *os.Root, from, to string) error {
	var file client.File
	err := s.persist(ctx, func() (err error) {
		file, err = s.worker.server.StatFile(ctx, s.ref, from)
		return err
	})
	switch {
	case errors.Is(err, navvy.ErrNotFound):
		return badPath("there is no file share://default/%s of %s, which the task is to find in its working directory", from, s.job.Owner)
	case errors.Is(err, navvy.ErrInvalid):
		return badPath("the task is to find %q in its working directory: %v", from, err)
	case err != nil:
		return fmt.Errorf("fetch %s: %w", from, err)
	}
	w, err := create(root, to)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EISDIR) || errors.Is(err, fs.ErrExist) {
		return badPath("%q cannot be both a file and a folder of the working directory", to)
	} else if err != nil {
		return fmt.Errorf("stage %s: %w", to, err)
	}
	err = s.fetch(ctx, &file, w)
	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("fetch %s: %w", from, err)
	}
	return nil
}

// create makes a file of the directory's owner, and the folders above it. Nothing of the
// attempt runs yet, so that nobody else is in the directory.
func create(root *os.Root, name string) (*os.File, error) {
	info, err := root.Stat(".")
	if err != nil {
		return nil, err
	}
	own := func(string) error { return nil }
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		own = func(name string) error { return root.Lchown(name, int(st.Uid), int(st.Gid)) }
	}
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		err := root.Mkdir(name[:i], 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err := errors.Join(err, own(name[:i])); err != nil {
			return nil, err
		}
	}
	// It may be a program.
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o700)
	if err != nil {
		return nil, err
	}
	if err := own(name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// fetch writes a file to w: a copy, as the attempt may write what it will. With a cache it
// comes over the network once.
func (s *stager) fetch(ctx context.Context, file *client.File, w *os.File) error {
	get := func(ctx context.Context, to io.Writer) error {
		_, err := s.worker.server.GetFile(ctx, s.ref, file.Key, to)
		return err
	}
	cache, err := s.worker.staged.open(&s.worker.opts)
	if err != nil {
		return err
	}
	return s.persist(ctx, func() error {
		if err := w.Truncate(0); err != nil {
			return err
		}
		if _, err := w.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if cache == nil || file.SHA256 == "" {
			return get(ctx, w)
		}
		at, release, err := cache.Get(ctx, s.job.Owner, file.SHA256, file.Size, get)
		if err != nil {
			return err
		}
		defer release()
		r, err := os.Open(at)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(w, r) // which shares blocks where the file system can
		return err
	})
}

// leaseDoubt is how long a worker that has lost its server tries on under a lease that the
// next server does not know yet; and how long to wait between tries.
const leaseDoubt = 30 * time.Second

// persist calls f until it succeeds, or fails for another reason than that the server is
// not there; of a worker that returns also until the server knows its lease again.
func (s *stager) persist(ctx context.Context, f func() error) error {
	pauses := pause.Series{First: firstPause, Longest: 2 * time.Second}
	began := time.Now()
	for {
		err := f()
		again := errors.Is(err, navvy.ErrUnavailable) ||
			s.worker.opts.Dir != "" && errors.Is(err, navvy.ErrLeaseLost) && time.Since(began) < leaseDoubt
		if !again {
			return err
		}
		timer := time.NewTimer(pauses.Next())
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// Keep implements driver.Stager.
func (s *stager) Keep(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	folders, err := s.renderFolders()
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, out := range s.spec.Stage.Out {
		pattern, err := s.render(out.Pattern, true)
		if err != nil {
			return err
		}
		to := string(s.ref.Task.Job) + "/" + strconv.FormatInt(s.ref.Task.Index, 10)
		if out.To != "" {
			if to, err = s.render(strings.TrimSuffix(out.To, "/"), false); err != nil {
				return err
			}
		}
		names, err := match(root, pattern, folders)
		if err != nil {
			return err
		}
		if len(names) == 0 && !out.Optional {
			return &driver.Refusal{Reason: navvy.ReasonFiles, Message: fmt.Sprintf("left no file %q in its working directory", pattern)}
		}
		for _, name := range names {
			key := path.Join(to, name)
			if kept[key] {
				continue
			}
			kept[key] = true
			if err := s.keep(ctx, root, name, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// match gives the files that a pattern means: those that it matches, and all that is in
// folders that it matches, but nothing of those that the attempt was to find. No link leads
// out of the directory.
func match(root *os.Root, pattern string, found []*folder) ([]string, error) {
	given := func(name string) bool {
		return slices.ContainsFunc(found, func(f *folder) bool { return within(name, f.to) })
	}
	matches, err := fs.Glob(root.FS(), pattern)
	if err != nil {
		return nil, badPath("the pattern %q: %v", pattern, err)
	}
	var names []string
	for _, name := range matches {
		if given(name) {
			continue
		}
		info, err := root.Stat(name)
		if err != nil || !info.IsDir() {
			names = append(names, name) // keep says what is wrong with it
			continue
		}
		err = fs.WalkDir(root.FS(), name, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case given(name) && d.IsDir():
				return fs.SkipDir
			case d.Type().IsRegular(): // and no link to a folder
				names = append(names, name)
			}
			return nil
		})
		if err != nil {
			return nil, badPath("the folder %q cannot be read: %v", name, err)
		}
	}
	return names, nil
}

// keep sends one file to the server.
func (s *stager) keep(ctx context.Context, root *os.Root, name, key string) error {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // should it be a pipe
	if err != nil {
		return &driver.Refusal{Reason: navvy.ReasonFiles, Message: fmt.Sprintf("its file %q cannot be kept: %v", name, err)}
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return &driver.Refusal{Reason: navvy.ReasonFiles, Message: fmt.Sprintf("%q, which is to be kept, is no file", name)}
	}
	err = s.persist(ctx, func() error {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return s.worker.server.PutFile(ctx, s.ref, key, f)
	})
	if errors.Is(err, navvy.ErrInvalid) || errors.Is(err, navvy.ErrConflict) {
		return &driver.Refusal{Reason: navvy.ReasonFiles, Message: fmt.Sprintf("its file %q cannot be kept: %v", name, err)}
	}
	if err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	return nil
}
