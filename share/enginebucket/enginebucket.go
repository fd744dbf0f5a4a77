// Package enginebucket is a bucket of gocloud.dev/blob whose files navvy's engine keeps:
// names in its ordered map, contents in its append-only logs. So files lie where jobs and
// results do, on one machine's disk or in PostgreSQL, and are as durable as these.
// docs/engine.md says how.
package enginebucket

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// MetadataSHA256 is the name of the metadata that a file's checksum is, in hexadecimal
// digits. The engine makes it, whatever a writer says.
const MetadataSHA256 = "sha256"

// Open gives the files of an engine as a bucket. Its errors wrap those of package navvy.
// The bucket may be used by any number of goroutines at once, as long as the engine's store
// is open; closing it closes nothing.
func Open(files engine.Files) *blob.Bucket { return blob.NewBucket(NewDriver(files)) }

// NewDriver gives what is behind such a bucket.
func NewDriver(files engine.Files) driver.Bucket { return &bucket{files} }

// bucket implements driver.Bucket.
type bucket struct{ files engine.Files }

// Close does nothing: the engine is others'.
func (b *bucket) Close() error { return nil }

// ErrorCode tells of what kind an error of the engine is.
func (b *bucket) ErrorCode(err error) gcerrors.ErrorCode {
	for _, known := range []struct {
		err  error
		code gcerrors.ErrorCode
	}{
		{context.Canceled, gcerrors.Canceled},
		{context.DeadlineExceeded, gcerrors.DeadlineExceeded},
		{navvy.ErrNotFound, gcerrors.NotFound},
		{navvy.ErrExists, gcerrors.FailedPrecondition},
		{navvy.ErrInvalid, gcerrors.InvalidArgument},
		{navvy.ErrExhausted, gcerrors.ResourceExhausted},
		{errors.ErrUnsupported, gcerrors.Unimplemented},
	} {
		if errors.Is(err, known.err) {
			return known.code
		}
	}
	return gcerrors.Unknown
}

// As gives nothing.
func (b *bucket) As(any) bool { return false }

// ErrorAs gives nothing: errors unwrap to those of package navvy.
func (b *bucket) ErrorAs(error, any) bool { return false }

// note is what a file has beside its bytes. What is usual is left out.
type note struct {
	Type        string            `json:"type,omitempty"`
	Cache       string            `json:"cache,omitempty"`
	Disposition string            `json:"disposition,omitempty"`
	Encoding    string            `json:"encoding,omitempty"`
	Language    string            `json:"language,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

const usualType = "application/octet-stream"

func newNote(contentType string, o *driver.WriterOptions) ([]byte, error) {
	n := note{contentType, o.CacheControl, o.ContentDisposition, o.ContentEncoding, o.ContentLanguage, nil}
	if n.Type == usualType {
		n.Type = ""
	}
	for name, value := range o.Metadata {
		if name == MetadataSHA256 {
			continue
		}
		if n.Metadata == nil {
			n.Metadata = map[string]string{}
		}
		n.Metadata[name] = value
	}
	b, err := json.Marshal(n)
	if string(b) == "{}" {
		b = nil
	}
	return b, err
}

// attributes are what is known of a file.
func attributes(f *engine.File) (*driver.Attributes, error) {
	n := note{}
	if len(f.Note) > 0 {
		if err := json.Unmarshal(f.Note, &n); err != nil {
			return nil, fmt.Errorf("what is noted of file %q: %w: %w", f.Name, err, navvy.ErrCorrupt)
		}
	}
	if n.Type == "" {
		n.Type = usualType
	}
	if n.Metadata == nil {
		n.Metadata = map[string]string{}
	}
	n.Metadata[MetadataSHA256] = hex.EncodeToString(f.SHA256[:])
	return &driver.Attributes{
		CacheControl: n.Cache, ContentDisposition: n.Disposition, ContentEncoding: n.Encoding, ContentLanguage: n.Language,
		ContentType: n.Type, Metadata: n.Metadata, ModTime: f.Changed, Size: f.Size, ETag: `"` + f.Content.String() + `"`,
	}, nil
}

// Attributes tells of a file, with its checksum.
func (b *bucket) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	f, err := b.files.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	return attributes(&f)
}

// reader implements driver.Reader.
type reader struct {
	io.Reader
	file       *engine.FileReader
	attributes driver.ReaderAttributes
}

// NewRangeReader reads a file, as it is now, to its end.
func (b *bucket) NewRangeReader(ctx context.Context, key string, offset, length int64, o *driver.ReaderOptions) (driver.Reader, error) {
	f, err := b.files.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	a, err := attributes(&f.File)
	if err == nil && o.BeforeRead != nil {
		err = o.BeforeRead(b.As)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	rest := max(0, f.File.Size-offset)
	if length >= 0 {
		rest = min(rest, length)
	}
	return &reader{io.NewSectionReader(f, offset, rest), f, driver.ReaderAttributes{
		ContentType: a.ContentType, ModTime: a.ModTime, Size: a.Size,
	}}, nil
}

func (r *reader) Close() error                         { return r.file.Close() }
func (r *reader) Attributes() *driver.ReaderAttributes { return &r.attributes }
func (r *reader) As(any) bool                          { return false }

// Delete removes a file.
func (b *bucket) Delete(ctx context.Context, key string, o *driver.DeleteOptions) error {
	if o.BeforeDelete != nil {
		if err := o.BeforeDelete(b.As); err != nil {
			return err
		}
	}
	return b.files.Delete(ctx, key)
}

// SignedURL is not offered.
func (b *bucket) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", fmt.Errorf("enginebucket: sign: %w", errors.ErrUnsupported)
}
