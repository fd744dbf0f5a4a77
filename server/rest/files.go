package rest

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
)

// digestHeader has the checksum of a file; see RFC 9530.
const digestHeader = "Repr-Digest"

// formatDigest writes a SHA-256 in hexadecimal digits as that header has it; empty if it is none.
func formatDigest(sum string) string {
	b, err := hex.DecodeString(sum)
	if err != nil || len(b) != sha256.Size {
		return ""
	}
	return "sha-256=:" + base64.StdEncoding.EncodeToString(b) + ":"
}

// parseDigest reads the SHA-256 of that header, among others maybe, in hexadecimal digits;
// empty if there is no header.
func parseDigest(header string) (string, error) {
	if header == "" {
		return "", nil
	}
	for member := range strings.SplitSeq(header, ",") {
		text, ok := strings.CutPrefix(strings.Trim(member, " \t"), "sha-256=:")
		text, closed := strings.CutSuffix(text, ":")
		if !ok || !closed {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(text)
		if err == nil && len(b) == sha256.Size {
			return hex.EncodeToString(b), nil
		}
	}
	return "", invalid("%s %.100q: want sha-256=:…: with the checksum in base 64", digestHeader, header)
}

// file tells which file the call is about.
func (e *exchange) file() (client.Files, string, error) {
	req := &navvyv1.FilesStatRequest{}
	err := e.fillPath(req)
	if err == nil {
		err = fillQuery(req.ProtoReflect(), e.r.URL.Query(), func(f protoreflect.FieldDescriptor) bool { return f.Name() == "owner" })
	}
	if owner := string(req.GetOwner()); owner != "" {
		return e.client.FilesOf(owner), string(req.GetKey()), err
	}
	return e.client.Files(), string(req.GetKey()), err
}

// fileHeaders say what is known of a file.
func (e *exchange) fileHeaders(f *client.File) {
	if digest := formatDigest(f.SHA256); digest != "" {
		e.w.Header().Set(digestHeader, digest)
		e.w.Header().Set("ETag", `"`+f.SHA256+`"`)
	}
}

// getFile answers with a file's bytes, or with a part of them, or, to HEAD, with what is
// known of it: what net/http knows of ranges and conditions holds. It copies here what is one
// part, so that nothing of it reads the content after it has returned.
func (e *exchange) getFile() error {
	files, key, err := e.file()
	if err != nil {
		return err
	}
	f, err := files.Stat(e.ctx, key)
	if err != nil {
		return err
	}
	e.fileHeaders(&f)
	e.w.Header().Set("Content-Type", typeBytes)
	content := &fileContent{ctx: e.ctx, files: files, file: f}
	w := &contentWriter{exchange: e}
	http.ServeContent(w, oneRange(e.r), "", f.Changed, content)
	content.close()
	switch {
	case w.refused == http.StatusRequestedRangeNotSatisfiable:
		return &httpError{w.refused, "range_not_satisfiable", fmt.Sprintf("the file has %d bytes, and none of %s", f.Size, e.r.Header.Get("Range"))}
	case w.refused != 0:
		return &httpError{w.refused, "precondition_failed", "the file is another one than the conditions want"}
	}
	return content.err
}

// oneRange is a request without its Range if that asks for several parts, as RFC 9110 allows:
// each part, of however few bytes, would open the file anew, and net/http reads them in a
// goroutine that may outlive ServeContent.
func oneRange(r *http.Request) *http.Request {
	if !strings.Contains(r.Header.Get("Range"), ",") {
		return r
	}
	one := *r
	one.Header = r.Header.Clone()
	one.Header.Del("Range")
	return &one
}

// contentWriter writes what net/http makes of a file, less its own errors.
type contentWriter struct {
	*exchange
	refused int // the status of an error
}

// Header implements http.ResponseWriter.
func (w *contentWriter) Header() http.Header { return w.w.Header() }

// WriteHeader implements http.ResponseWriter.
func (w *contentWriter) WriteHeader(status int) {
	if status >= http.StatusBadRequest {
		w.refused = status
		return
	}
	w.status, w.media = status, typeBytes
	w.w.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *contentWriter) Write(p []byte) (int, error) {
	if w.refused != 0 {
		return len(p), nil
	}
	if err := w.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// fileContent reads a file of the services, from wherever it is sought.
type fileContent struct {
	ctx   context.Context //nolint:containedctx // of the call
	files client.Files
	file  client.File
	at    int64
	in    *io.PipeReader // nil before something is read from here on
	end   func()         // ends what is being read, and waits for that
	err   error          // that has ended the reading
}

// Seek implements io.Seeker.
func (c *fileContent) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.at
	case io.SeekEnd:
		offset += c.file.Size
	}
	if offset < 0 {
		return c.at, errors.New("before the beginning")
	}
	if offset != c.at {
		c.close()
	}
	c.at = offset
	return offset, nil
}

// Read implements io.Reader.
func (c *fileContent) Read(p []byte) (int, error) {
	if c.err != nil || c.at >= c.file.Size {
		return 0, errors.Join(c.err, io.EOF)
	}
	if c.in == nil {
		c.begin()
	}
	n, err := c.in.Read(p)
	if c.at += int64(n); err != nil {
		c.err = err
	}
	return n, err
}

// begin begins to read from here on.
func (c *fileContent) begin() {
	ctx, cancel := context.WithCancel(c.ctx)
	in, out := io.Pipe()
	over := make(chan struct{})
	at := c.at
	go func() {
		defer close(over)
		_ = out.CloseWithError(c.bring(ctx, at, out))
	}()
	c.in, c.end = in, func() {
		cancel()
		_ = in.Close() // nobody reads any more
		<-over
	}
}

// bring writes the file from at on. Its last bytes come when it is known to be what it is
// said to be: without them nobody takes it for whole.
func (c *fileContent) bring(ctx context.Context, at int64, out io.Writer) error {
	last := &lagging{w: out}
	f, err := c.files.GetRange(ctx, c.file.Key, at, -1, last)
	if err == nil && (f.SHA256 != c.file.SHA256 && c.file.SHA256 != "" || f.Size != c.file.Size) {
		err = fmt.Errorf("file %q has changed while it was read: %w", c.file.Key, navvy.ErrConflict)
	}
	if err != nil {
		return err
	}
	return last.flush()
}

// close ends what is being read.
func (c *fileContent) close() {
	if c.in != nil {
		c.end()
		c.in = nil
	}
}

// lagging is a writer that keeps what was written last.
type lagging struct {
	w    io.Writer
	kept []byte
}

func (l *lagging) Write(p []byte) (int, error) {
	if err := l.flush(); err != nil {
		return 0, err
	}
	l.kept = append(l.kept[:0], p...)
	return len(p), nil
}

func (l *lagging) flush() error {
	_, err := l.w.Write(l.kept)
	return err
}

// unconditional refuses the conditions that a change of a file cannot have: to leave one out
// would be to change what the caller wants to keep. want says what is offered.
func (e *exchange) unconditional(want string) error {
	for _, name := range []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		if header := e.r.Header.Get(name); header != "" {
			return invalid("%s %.100s: %s", name, header, want)
		}
	}
	return nil
}

// removeFile removes a file, on no condition.
func (e *exchange) removeFile() error {
	if err := e.unconditional("a file is removed without a condition"); err != nil {
		return err
	}
	return e.usual()
}

// putFile writes a file: the bytes of the body, of any length, whole or not at all.
func (e *exchange) putFile() error {
	files, key, err := e.file()
	if err != nil {
		return err
	}
	o := client.PutFileOptions{}
	if o.SHA256, err = parseDigest(e.r.Header.Get(digestHeader)); err != nil {
		return err
	}
	if header := e.r.Header["If-None-Match"]; len(header) == 1 && header[0] == "*" {
		o.IfAbsent = true
		e.r.Header.Del("If-None-Match")
	}
	if err := e.unconditional("a file is put with If-None-Match: *, for no file, or without a condition"); err != nil {
		return err
	}
	if e.r.Header.Get("Content-Range") != "" {
		return invalid("Content-Range: a file is put as a whole")
	}
	f, err := files.Put(e.ctx, key, bodyReader{e}, o)
	if errors.Is(err, navvy.ErrCorrupt) && o.SHA256 != "" {
		return invalid("what came is not what %s says", digestHeader)
	}
	if o.IfAbsent && errors.Is(err, navvy.ErrExists) {
		return condition(err)
	}
	if err != nil {
		return err
	}
	e.fileHeaders(&f)
	e.answer(http.StatusOK, typeJSON, marshal(&navvyv1.FilesPutResponse{File: &navvyv1.File{
		Key: f.Key, Size: f.Size, Changed: timestamppb.New(f.Changed), Sha256: f.SHA256,
	}}))
	return nil
}

// bodyReader reads a body of any length, of which something has to come all the time.
type bodyReader struct{ *exchange }

func (r bodyReader) Read(p []byte) (int, error) {
	_ = r.control.SetReadDeadline(time.Now().Add(r.opts.BodyTime)) // as of body
	n, err := r.r.Body.Read(p)
	if errors.Is(err, io.EOF) {
		_ = r.control.SetReadDeadline(time.Time{})
		return n, io.EOF
	}
	return n, bodyError(err)
}

// listFiles answers with one file a line.
func (e *exchange) listFiles() error {
	req, err := e.request()
	if err != nil {
		return err
	}
	return e.stream(req, func(m proto.Message) []byte {
		var b []byte
		for _, f := range m.(*navvyv1.FilesListResponse).GetFiles() {
			b = append(appendMessage(b, f.ProtoReflect()), '\n')
		}
		return b
	})
}
