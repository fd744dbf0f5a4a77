// Package share keeps files that jobs need and make: in a directory, in S3, or in Azure's
// Blob storage. A file appears whole or not at all, with the SHA-256 of what it holds, and
// whoever reads it is told if that is not what comes. docs/share.md is for users.
package share

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share/dirbucket"
	"github.com/navvy-run/navvy/share/place"
)

// Options are what a URL does not say. The zero value is the default.
type Options struct {
	// AzureConnection is the connection string of an Azure storage account. Defaults to
	// none: the account of the URL, with what the Azure SDK finds as credential.
	AzureConnection string
	// TempDir takes files on their way to a share that wants their checksum before they
	// come, if they cannot be read twice. Defaults to os.TempDir().
	TempDir string
}

// Share holds files under keys, see place.CheckKey. Its methods may be called at once. Errors
// wrap a sentinel of package navvy where one fits: ErrNotFound for what is not there,
// ErrDenied, ErrExhausted for a full disk, ErrUnavailable for a store that is not reached,
// ErrCorrupt for a file that is not what was written.
type Share struct {
	name      string // for people: the URL without its secrets
	bucket    *blob.Bucket
	temp      string
	transport *http.Transport // nil if there is none
	// whole is the error if the place of all files is not there, where it is made by others:
	// a bucket or container; nil where there is no such thing.
	whole *Missing
	// maxCopy is how many bytes the store copies at once; 0 if there is no bound.
	maxCopy int64
	// sums tells that the bucket makes checksums while it writes, and keeps them.
	sums bool
	// move gives a file another name in one step; nil where it takes two.
	move func(ctx context.Context, from, to string) error
}

// opener opens what a URL names.
type opener func(ctx context.Context, u *url.URL, o *Options) (*Share, error)

// openers are all kinds of shares that are linked in, by the schemes of their URLs, which
// place.Schemes lists.
func openers() map[string]opener {
	return map[string]opener{"azblob": openAzure, "file": openDir, "s3": openS3}
}

// Open opens the share that a URL names:
//
//	file:///abs/dir                     a directory, which must exist
//	s3://BUCKET/PREFIX?region=…         a bucket of S3, or of what speaks its protocol
//	azblob://CONTAINER/PREFIX           a container of Azure's Blob storage
//
// PREFIX is a folder, and may be left out. An unknown option is an error, which wraps
// navvy.ErrInvalid as do others of the URL. Nothing is asked yet of a store elsewhere, and
// ctx is not kept.
func Open(ctx context.Context, text string, o *Options) (*Share, error) {
	if o == nil {
		o = &Options{}
	}
	u, err := place.ParseURL(text)
	if err != nil {
		return nil, fmt.Errorf("share: %w", err)
	}
	s, err := openers()[u.Scheme](ctx, u, o)
	if err != nil {
		return nil, fmt.Errorf("share %s: %w", place.Redacted(u), err)
	}
	s.name = place.Redacted(u)
	if s.temp = o.TempDir; s.temp == "" {
		s.temp = os.TempDir()
	}
	if u.Scheme == "file" {
		return s, nil
	}
	if err := s.below(strings.Trim(u.Path, "/")); err != nil {
		return nil, errors.Join(fmt.Errorf("share %s: %w", s.name, err), s.Close())
	}
	return s, nil
}

// Sub makes a share one of what is below a folder. The share that it is called on is not
// used any more, and closed with what is returned.
func (s *Share) Sub(folder string) (*Share, error) {
	sub := *s
	if err := sub.below(folder); err != nil {
		return nil, errors.Join(s.wrap("open a folder", folder, err), s.Close())
	}
	return &sub, nil
}

// below makes a share one of what is below a folder.
func (s *Share) below(folder string) error {
	if folder == "" {
		return nil
	}
	if err := place.CheckKey(folder); err != nil {
		return err
	}
	s.bucket, s.move = blob.PrefixedBucket(s.bucket, folder+"/"), nil
	return nil
}

// OpenBucket makes a share of a bucket, which notes the metadata of each file, under a name
// for people. It is closed with the share.
func OpenBucket(name string, b *blob.Bucket) *Share {
	return &Share{name: name, bucket: b, temp: os.TempDir()}
}

// OpenSums is OpenBucket for a bucket that makes the checksums itself: its writers can be
// asked for as what has the method SHA256, as those of package dirbucket, and move gives a
// file another name in one step, in the place of one that is there.
func OpenSums(name string, b *blob.Bucket, move func(ctx context.Context, from, to string) error) *Share {
	s := OpenBucket(name, b)
	s.sums, s.move = true, move
	return s
}

// OpenMemory makes a share in memory, empty, for tests.
func OpenMemory() *Share {
	return &Share{name: "in memory", bucket: memblob.OpenBucket(nil), temp: os.TempDir()}
}

// openDir opens a directory.
func openDir(_ context.Context, u *url.URL, _ *Options) (*Share, error) {
	if _, err := options(u); err != nil {
		return nil, err
	}
	if u.Host != "" && u.Host != "localhost" || u.User != nil || !filepath.IsAbs(u.Path) || strings.ContainsRune(u.Path, 0) {
		return nil, invalid("want file:///DIR, three slashes and a whole path")
	}
	return dirShare(u.Path)
}

// OpenDir opens a directory, which must exist.
func OpenDir(dir string) (*Share, error) {
	s, err := dirShare(dir)
	if err != nil {
		return nil, fmt.Errorf("share %s: %w", dir, err)
	}
	return s, nil
}

func dirShare(dir string) (*Share, error) {
	bucket, err := dirbucket.Open(dir)
	info, statErr := os.Stat(dir) //nolint:gosec // the directory that was asked for
	switch sentinel := kind(err); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Missing{"directory", dir}
	case errors.Is(err, syscall.ENOTDIR), err != nil && statErr == nil && !info.IsDir():
		return nil, invalid("%s is no directory", printable(dir))
	case sentinel != nil:
		return nil, fmt.Errorf("open the directory: %w: %w", brief(err), sentinel)
	case err != nil:
		return nil, fmt.Errorf("open the directory: %w", brief(err))
	}
	return &Share{name: dir, bucket: bucket, temp: os.TempDir(), sums: true}, nil
}

// invalid is an error of what was asked.
func invalid(format string, a ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, a...), navvy.ErrInvalid)
}

// options reads those of a URL, of which each may stand once and only the known ones may stand.
func options(u *url.URL, known ...string) (url.Values, error) {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, invalid("its options: %v", err)
	}
	for name, list := range values {
		switch {
		case !slices.Contains(known, name) && len(known) == 0:
			return nil, invalid("option %q is unknown; %s:// has none", name, u.Scheme)
		case !slices.Contains(known, name):
			return nil, invalid("option %q is unknown; %s:// has %s", name, u.Scheme, strings.Join(known, ", "))
		case len(list) > 1:
			return nil, invalid("option %q stands twice", name)
		}
	}
	return values, nil
}

// flag reads an option that is true or false.
func flag(values url.Values, name string) (bool, error) {
	switch values.Get(name) {
	case "true":
		return true, nil
	case "false", "":
		return false, nil
	}
	return false, invalid("option %s is %q: want true or false", name, values.Get(name))
}

// How long others may take: to be reached, and to begin an answer.
const (
	dialTime    = 15 * time.Second
	answerTime  = 2 * time.Minute
	connections = 64
)

func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSHandshakeTimeout, t.ResponseHeaderTimeout, t.MaxIdleConnsPerHost = dialTime, answerTime, connections
	return t
}

// String is the share's URL without its secrets, or its directory.
func (s *Share) String() string { return s.name }

// Close ends the use of the share. Files that are being read or written must be done.
func (s *Share) Close() error {
	err := s.bucket.Close()
	if s.transport != nil {
		s.transport.CloseIdleConnections()
	}
	return err
}
