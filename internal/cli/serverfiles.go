package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/server"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/dirbucket"
	"github.com/navvy-run/navvy/worker"
)

// serverFiles are the files that a server keeps, as a bucket.
type serverFiles struct {
	files client.Files
	done  func() error // closes the connection
}

var _ driver.Bucket = serverFiles{}

// openServerShare opens the files that a server keeps for the caller.
func (a *app) openServerShare(ctx context.Context) (*share.Share, error) {
	c, err := a.connect(ctx, needLook)
	if err != nil {
		return nil, err
	}
	closing := context.WithoutCancel(ctx)
	b := serverFiles{c.Files(), func() error { return c.close(closing) }}
	return share.OpenBucket(defaultShare+" of "+c.server, blob.NewBucket(b)), nil
}

// shareOf has a server keep files where its flags say.
func (a *app) shareOf(f *serverFlags, cfg *holder.Config) error {
	at := f.share
	switch {
	case at != "" && f.shareFile != "":
		return usagef("--share and --share-file both name a share: give one of them")
	case at != "":
		if err := noPassword(at); err != nil {
			return err
		}
	case f.shareFile != "":
		text, err := a.smallFile(f.shareFile)
		if err != nil {
			return usagef("--share-file: %w", err)
		}
		at = strings.TrimSpace(text)
	default:
		at = a.env("NAVVY_SHARE")
	}
	if at == "" {
		if store, err := a.storeURL(); err != nil || store == "" {
			return err // the data directory
		}
		cfg.OpenFiles = withStore(cfg.Dir)
		return nil
	}
	if strings.HasPrefix(at, engineShare) && at != engineShare {
		return usagef("--share %s: want %s and nothing behind it", at, engineShare)
	}
	if at == engineShare {
		cfg.OpenFiles = func(_ context.Context, eng *engine.Engine) (*share.Share, error) { return holder.EngineShare(eng), nil }
		return nil
	}
	cfg.OpenFiles = func(ctx context.Context, _ *engine.Engine) (*share.Share, error) {
		s, err := share.Open(ctx, at, &share.Options{AzureConnection: a.env("AZURE_STORAGE_CONNECTION_STRING")})
		return s, shareHint(err)
	}
	return nil
}

// engineShare is what stands for a URL where a server's own store keeps the files of owners.
const engineShare = "engine:"

// withStore opens the files of a server whose store is elsewhere, if nobody says where they
// are: they are there, too, so that nothing depends on this machine's disk, unless an earlier
// server has kept them here, and none there. Where both places have some, either choice would
// hide what jobs in the queue wait for: it is left to who starts the server.
func withStore(dir *holder.Dir) func(context.Context, *engine.Engine) (*share.Share, error) {
	return func(ctx context.Context, eng *engine.Engine) (*share.Share, error) {
		there := false
		err := eng.Files().Scan(ctx, "", "", func(f *engine.File) error {
			if f.Name == server.ShareIDFile {
				return nil
			}
			there = true
			return engine.ErrStop
		})
		if err != nil && !errors.Is(err, navvy.ErrCorrupt) { // a damaged one is one
			return nil, err
		}
		here, err2 := dir.KeepsFiles()
		if err2 != nil {
			return nil, err2
		}
		there = there || err != nil
		at := holder.ShareDir(dir.Path())
		if here && there {
			return nil, inBoth(at)
		}
		if err := keepAt(ctx, eng.Registry(), at, here, there); err != nil {
			return nil, err
		}
		if here {
			return dir.OpenShare()
		}
		return holder.EngineShare(eng), nil
	}
}

// keepAt has the store remember that the directory at keeps files of owners, if it does, so
// that a server on another machine does not take them for none, and forget what is over.
func keepAt(ctx context.Context, reg engine.Registry, at string, here, there bool) error {
	const name = "directory"
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	at += " on " + host
	entry, err := reg.Get(ctx, engine.KindFilesAt, name)
	known := string(entry.Value)
	switch {
	case err != nil && !errors.Is(err, navvy.ErrNotFound):
		return err
	case here && known != at:
		return reg.Set(ctx, engine.KindFilesAt, name, []byte(at), nil)
	case here || known == "":
		return nil
	case !there && known != at:
		return withHint(fmt.Errorf("the server's last start left files of owners in %s, which are not here; jobs may wait for them: %w", known, navvy.ErrConflict),
			"start it there; or with --share %s until there are files in the store, or --share URL, and those are not seen before they are moved (docs/share.md)", engineShare)
	}
	return reg.Delete(ctx, engine.KindFilesAt, name)
}

// inBoth says that files of owners are in a directory and in the store.
func inBoth(path string) error {
	at := &url.URL{Scheme: "file", Path: path}
	return withHint(fmt.Errorf("there are files of owners in %s and in the store; those of one place only would be seen: %w", path, navvy.ErrConflict),
		"say which: --share %s for those in the store, or --share %s; docs/share.md says how to move the others, and that directory away", engineShare, at)
}

// ErrorCode tells of what kind an error is.
func (b serverFiles) ErrorCode(err error) gcerrors.ErrorCode {
	for sentinel, code := range map[error]gcerrors.ErrorCode{
		navvy.ErrNotFound: gcerrors.NotFound, navvy.ErrExists: gcerrors.FailedPrecondition, navvy.ErrInvalid: gcerrors.InvalidArgument,
		navvy.ErrDenied: gcerrors.PermissionDenied, navvy.ErrExhausted: gcerrors.ResourceExhausted,
		navvy.ErrUnsupported: gcerrors.Unimplemented, context.Canceled: gcerrors.Canceled,
	} {
		if errors.Is(err, sentinel) {
			return code
		}
	}
	return gcerrors.Unknown
}

// As gives nothing.
func (b serverFiles) As(any) bool { return false }

// ErrorAs gives nothing.
func (b serverFiles) ErrorAs(error, any) bool { return false }

// Close closes the connection.
func (b serverFiles) Close() error { return b.done() }

// Attributes tells of a file.
func (b serverFiles) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	f, err := b.files.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	a := &driver.Attributes{ContentType: "application/octet-stream", ModTime: f.Changed, Size: f.Size, ETag: fmt.Sprintf("%s-%d-%d", f.SHA256, f.Size, f.Changed.UnixNano())}
	if f.SHA256 != "" {
		a.Metadata = map[string]string{dirbucket.MetadataSHA256: f.SHA256}
	}
	return a, nil
}

// ListPaged gives all files as one page.
func (b serverFiles) ListPaged(ctx context.Context, o *driver.ListOptions) (*driver.ListPage, error) {
	if o.Delimiter != "" {
		return nil, fmt.Errorf("list the files of a server by folders: %w", navvy.ErrUnsupported)
	}
	page := &driver.ListPage{}
	for f, err := range b.files.List(ctx, o.Prefix) {
		if err != nil {
			return nil, err
		}
		page.Objects = append(page.Objects, &driver.ListObject{Key: f.Key, ModTime: f.Changed, Size: f.Size})
	}
	return page, nil
}

// fileReader reads a file that comes.
type fileReader struct {
	io.Reader
	pipe       *io.PipeReader
	cancel     context.CancelFunc
	done       chan struct{}
	attributes driver.ReaderAttributes
}

// NewRangeReader reads a file.
func (b serverFiles) NewRangeReader(ctx context.Context, key string, offset, length int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	f, err := b.files.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	in, out := io.Pipe()
	r := &fileReader{Reader: in, pipe: in, cancel: cancel, done: make(chan struct{}), attributes: driver.ReaderAttributes{
		ContentType: "application/octet-stream", ModTime: f.Changed, Size: f.Size,
	}}
	go func() {
		defer close(r.done)
		_, err := b.files.GetRange(ctx, key, offset, length, out)
		_ = out.CloseWithError(err)
	}()
	return r, nil
}

func (r *fileReader) Close() error {
	r.cancel()
	err := r.pipe.Close()
	<-r.done
	return err
}

func (r *fileReader) Attributes() *driver.ReaderAttributes { return &r.attributes }
func (r *fileReader) As(any) bool                          { return false }

// fileWriter writes a file that goes.
type fileWriter struct {
	pipe   *io.PipeWriter
	ctx    context.Context //nolint:containedctx // the driver's contract: a writer is closed without one
	cancel context.CancelFunc
	end    chan error
}

// NewTypedWriter begins a file.
func (b serverFiles) NewTypedWriter(ctx context.Context, key, _ string, o *driver.WriterOptions) (driver.Writer, error) {
	ctx, cancel := context.WithCancel(ctx)
	in, out := io.Pipe()
	w := &fileWriter{pipe: out, ctx: ctx, cancel: cancel, end: make(chan error, 1)}
	go func() {
		_, err := b.files.Put(ctx, key, in, client.PutFileOptions{SHA256: o.Metadata[dirbucket.MetadataSHA256], IfAbsent: o.IfNotExist})
		w.end <- err
		_ = in.CloseWithError(err)
	}()
	return w, nil
}

func (w *fileWriter) Write(p []byte) (int, error) { return w.pipe.Write(p) }

// Close ends the file; after the end of the context it gives it up.
func (w *fileWriter) Close() error {
	defer w.cancel()
	_ = w.pipe.CloseWithError(context.Cause(w.ctx)) // nil: that was all
	return <-w.end
}

// Copy is not offered.
func (b serverFiles) Copy(context.Context, string, string, *driver.CopyOptions) error {
	return fmt.Errorf("copy within the files of a server: %w", navvy.ErrUnsupported)
}

// Delete removes a file.
func (b serverFiles) Delete(ctx context.Context, key string, _ *driver.DeleteOptions) error {
	return b.files.Remove(ctx, key)
}

// SignedURL is not offered.
func (b serverFiles) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", fmt.Errorf("sign: %w", navvy.ErrUnsupported)
}

// workerCache is a cache of files as a worker wants it.
type workerCache struct{ *share.Cache }

func openCache(dir string) (worker.Cache, error) {
	c, err := share.OpenCache(dir, nil)
	if err != nil {
		return nil, err
	}
	return workerCache{c}, nil
}

// Get implements worker.Cache.
func (c workerCache) Get(ctx context.Context, owner, sha256 string, size int64, fetch func(context.Context, io.Writer) error) (path string, release func(), err error) {
	e, err := c.Cache.Get(ctx, owner, sha256, size, fetch)
	if err != nil {
		return "", nil, err
	}
	return e.Path, e.Release, nil
}
