package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"log/slog"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/share/place"
)

// FileStore is where a server keeps files: a *share.Share, whose errors it gives.
type FileStore interface {
	Put(ctx context.Context, key string, r io.Reader, o *place.PutOptions) (place.File, error)
	// Copy writes a file to w, in pieces that are its own, and checks it.
	Copy(ctx context.Context, key string, w io.Writer, progress func(n int64)) (place.File, error)
	// CopyRange writes a part of it, which it cannot check.
	CopyRange(ctx context.Context, key string, w io.Writer, offset, length int64) (place.File, error)
	Stat(ctx context.Context, key string) (place.File, error)
	List(ctx context.Context, prefix string) iter.Seq2[place.File, error]
	Move(ctx context.Context, from, to string) error
	// Duplicate gives what a file holds a second name.
	Duplicate(ctx context.Context, from, to string) error
	Remove(ctx context.Context, key string) error
}

// Where files lie in the server's share.
const (
	filesFolder    = "files/"    // files/OWNER/NAME: those of owners
	attemptsFolder = "attempts/" // see attemptFiles.folder
)

const (
	maxFileName = 700       // bytes: with what stands before it, a key of a share
	maxChunk    = 1 << 20   // bytes that a caller may send at once
	getChunk    = 256 << 10 // bytes that are sent at once
	listChunk   = 200       // files that are told of at once
	roomEvery   = 16 << 20  // bytes after which free space is asked for again
)

// files implements the Files service.
type files struct {
	navvyv1.UnimplementedFilesServer
	*Server
}

// OwnerFolder is where the files of an owner lie in the share of a server. What a share
// could not have in a name is written as in a URL.
func OwnerFolder(owner string) string {
	var b strings.Builder
	for i := range len(owner) {
		c := owner[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("@+-", c) >= 0 ||
			c == '.' && i > 0 && i < len(owner)-1 || c == '_' && !strings.HasSuffix(owner[:i], "_")
		if plain {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return filesFolder + b.String()
}

// fileKey is where a file of an owner lies.
func fileKey(owner, name string) (string, error) {
	if err := place.CheckKey(name); err != nil {
		return "", fmt.Errorf("file: %w", err)
	}
	if len(name) > maxFileName {
		return "", fmt.Errorf("file %.40q…: its name has more than %d bytes: %w", name, maxFileName, navvy.ErrInvalid)
	}
	return OwnerFolder(owner) + "/" + name, nil
}

// store is the share that keeps files.
func (s *Server) store() (FileStore, error) {
	if s.opts.Files == nil {
		return nil, fmt.Errorf("this server keeps no files: %w", navvy.ErrUnsupported)
	}
	return s.opts.Files, nil
}

// owner is whose files a call is about: the caller's own, or, for an admin who names
// another owner, that one's, which goes into the audit log. What attempts of the owner
// have published is there then.
func (s *files) owner(ctx context.Context, owner, method string) (string, FileStore, error) {
	st, err := s.store()
	if err != nil {
		return "", nil, err
	}
	me := auth.From(ctx)
	if owner == "" {
		owner = me.Name
	}
	if owner != me.Name {
		if me.Role != auth.RoleAdmin {
			return "", nil, fmt.Errorf("the files of %s are seen by their owner and by admins: %w", owner, navvy.ErrDenied)
		}
		if err := auth.ValidateName(owner); err != nil {
			return "", nil, err
		}
		s.opts.Gate.Acted(ctx, me, method, slog.String("owner", owner))
	}
	return owner, st, s.publishOf(ctx, owner)
}

func fromFile(f *place.File, name string) *navvyv1.File {
	m := &navvyv1.File{Key: name, Size: f.Size, Sha256: f.SHA256}
	if !f.Modified.IsZero() {
		m.Changed = timestamppb.New(f.Modified)
	}
	return m
}

// noFile makes an error one about the file as its owner calls it.
func (s *Server) noFile(verb, name string, err error) error {
	if errors.Is(err, navvy.ErrNotFound) {
		return fmt.Errorf("there is no file %q: %w", name, navvy.ErrNotFound)
	}
	return s.tellFile(verb, name, err)
}

// Put implements the call of that name.
func (s *files) Put(stream grpc.ClientStreamingServer[navvyv1.FilesPutRequest, navvyv1.FilesPutResponse]) error {
	f, err := s.put(stream)
	if err != nil {
		return s.fail(err)
	}
	return s.fail(stream.SendAndClose(&navvyv1.FilesPutResponse{File: f}))
}

func (s *files) put(stream grpc.ClientStreamingServer[navvyv1.FilesPutRequest, navvyv1.FilesPutResponse]) (*navvyv1.File, error) {
	ctx := stream.Context()
	first, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	h := first.GetHeader()
	if h == nil {
		return nil, errNoHeader
	}
	owner, st, err := s.owner(ctx, h.GetOwner(), navvyv1.Files_Put_FullMethodName)
	if err != nil {
		return nil, err
	}
	key, err := fileKey(owner, h.GetKey())
	if err != nil {
		return nil, err
	}
	in := &incomingFile{server: s.Server, recv: stream.Recv, part: first}
	f, err := in.put(ctx, st, key, h)
	if err != nil {
		return nil, err
	}
	s.noteFile(ctx, owner, h.GetKey(), f.SHA256)
	return fromFile(&f, h.GetKey()), nil
}

var errNoHeader = fmt.Errorf("a file without a header: %w", navvy.ErrInvalid)

// incomingFile reads what a caller sends.
type incomingFile struct {
	server *Server
	recv   func() (*navvyv1.FilesPutRequest, error)
	part   *navvyv1.FilesPutRequest
	rest   []byte
	hash   hash.Hash
	n      int64 // since free space was asked for
	over   bool
	err    error // that has ended the reading
}

// put writes the file.
func (in *incomingFile) put(ctx context.Context, st FileStore, key string, h *navvyv1.FilesPutHeader) (place.File, error) {
	in.hash = sha256.New()
	if err := in.server.roomForFile(); err != nil {
		return place.File{}, err
	}
	f, err := st.Put(ctx, key, in, &place.PutOptions{SHA256: h.GetSha256(), IfAbsent: h.GetIfAbsent()})
	if err != nil {
		if in.err != nil { // not the store's
			return f, fmt.Errorf("put file %q: %w", h.GetKey(), in.err)
		}
		return f, in.server.tellFile("put", h.GetKey(), err)
	}
	return f, nil
}

// roomForFile refuses files while the disk is nearly full.
func (s *Server) roomForFile() error {
	if err := s.eng.Room(); err != nil {
		return err
	}
	if s.opts.Full() {
		return fmt.Errorf("the disk of the server is full: %w", navvy.ErrExhausted)
	}
	return nil
}

// Read gives the next bytes of the file; io.EOF only if all that was sent has come.
func (in *incomingFile) Read(p []byte) (int, error) {
	for len(in.rest) == 0 {
		if in.over {
			return 0, io.EOF
		}
		if in.err = in.next(); in.err != nil {
			return 0, in.err
		}
	}
	n := copy(p, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// next takes the next message.
func (in *incomingFile) next() error {
	m := in.part
	if in.part = nil; m == nil {
		var err error
		if m, err = in.recv(); errors.Is(err, io.EOF) {
			return fmt.Errorf("a file without an end: %w", navvy.ErrInvalid)
		} else if err != nil {
			return err
		}
	}
	if len(m.GetChunk()) > maxChunk {
		return fmt.Errorf("a chunk of %d bytes, and at most %d are taken: %w", len(m.GetChunk()), maxChunk, navvy.ErrInvalid)
	}
	in.rest = m.GetChunk()
	in.hash.Write(in.rest)
	if in.n += int64(len(in.rest)); in.n >= roomEvery {
		in.n = 0
		if err := in.server.eng.Room(); err != nil {
			return err
		}
	}
	if end := m.GetEnd(); end != nil {
		in.over = true
		if got := hex.EncodeToString(in.hash.Sum(nil)); got != end.GetSha256() {
			return fmt.Errorf("what came has SHA-256 %s, and %.64q was sent: %w", got, end.GetSha256(), navvy.ErrCorrupt)
		}
	}
	return nil
}

// Get implements the call of that name.
func (s *files) Get(req *navvyv1.FilesGetRequest, stream grpc.ServerStreamingServer[navvyv1.FilesGetResponse]) error {
	owner, _, err := s.owner(stream.Context(), req.GetOwner(), navvyv1.Files_Get_FullMethodName)
	if err == nil {
		err = s.sendFile(stream, owner, req)
	}
	return s.fail(err)
}

// sendFile sends a file of an owner, or a part of it.
func (s *Server) sendFile(stream grpc.ServerStreamingServer[navvyv1.FilesGetResponse], owner string, req *navvyv1.FilesGetRequest) (err error) {
	name := req.GetKey()
	key, err := fileKey(owner, name)
	if err != nil {
		return err
	}
	var f place.File
	if req.Length == nil && req.GetOffset() == 0 {
		f, err = s.opts.Files.Copy(stream.Context(), key, chunkWriter{stream}, nil)
	} else {
		length := int64(-1)
		if req.Length != nil {
			length = max(req.GetLength(), 0)
		}
		f, err = s.opts.Files.CopyRange(stream.Context(), key, chunkWriter{stream}, req.GetOffset(), length)
	}
	if err != nil {
		return s.noFile("get", name, err)
	}
	return stream.Send(&navvyv1.FilesGetResponse{File: fromFile(&f, name)})
}

// chunkWriter sends what is written to it.
type chunkWriter struct {
	stream grpc.ServerStreamingServer[navvyv1.FilesGetResponse]
}

func (w chunkWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), getChunk)
		// Whoever receives it in this process has it then.
		if err := w.stream.Send(&navvyv1.FilesGetResponse{Chunk: bytes.Clone(rest[:n])}); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// Stat implements the call of that name.
func (s *files) Stat(ctx context.Context, req *navvyv1.FilesStatRequest) (*navvyv1.FilesStatResponse, error) {
	owner, _, err := s.owner(ctx, req.GetOwner(), navvyv1.Files_Stat_FullMethodName)
	if err != nil {
		return nil, s.fail(err)
	}
	resp, err := s.statFile(ctx, owner, req.GetKey())
	return resp, s.fail(err)
}

func (s *Server) statFile(ctx context.Context, owner, name string) (*navvyv1.FilesStatResponse, error) {
	key, err := fileKey(owner, name)
	if err != nil {
		return nil, err
	}
	f, err := s.opts.Files.Stat(ctx, key)
	if err != nil {
		return nil, s.noFile("get", name, err)
	}
	return &navvyv1.FilesStatResponse{File: fromFile(&f, name)}, nil
}

// List implements the call of that name.
func (s *files) List(req *navvyv1.FilesListRequest, stream grpc.ServerStreamingServer[navvyv1.FilesListResponse]) error {
	return s.fail(s.list(req, stream))
}

func (s *files) list(req *navvyv1.FilesListRequest, stream grpc.ServerStreamingServer[navvyv1.FilesListResponse]) error {
	owner, _, err := s.owner(stream.Context(), req.GetOwner(), navvyv1.Files_List_FullMethodName)
	if err != nil {
		return err
	}
	return s.sendList(stream, owner, req.GetPrefix())
}

// sendList sends what is known of files of an owner.
func (s *Server) sendList(stream grpc.ServerStreamingServer[navvyv1.FilesListResponse], owner, prefix string) error {
	if outside := "/" + prefix + "/"; strings.Contains(outside, "/../") || strings.Contains(outside, "/./") || strings.Contains(prefix, "//") {
		return fmt.Errorf("names of files do not begin with %q: %w", prefix, navvy.ErrInvalid)
	}
	folder := OwnerFolder(owner) + "/"
	m := &navvyv1.FilesListResponse{}
	for f, err := range s.opts.Files.List(stream.Context(), folder+prefix) {
		if err != nil {
			return s.tellFile("list", prefix, err)
		}
		f.SHA256 = ""
		m.Files = append(m.Files, fromFile(&f, strings.TrimPrefix(f.Key, folder)))
		if len(m.GetFiles()) == listChunk {
			if err := stream.Send(m); err != nil {
				return err
			}
			m = &navvyv1.FilesListResponse{}
		}
	}
	if len(m.GetFiles()) == 0 {
		return nil
	}
	return stream.Send(m)
}

// Remove implements the call of that name.
func (s *files) Remove(ctx context.Context, req *navvyv1.FilesRemoveRequest) (*navvyv1.FilesRemoveResponse, error) {
	owner, st, err := s.owner(ctx, req.GetOwner(), navvyv1.Files_Remove_FullMethodName)
	if err != nil {
		return nil, s.fail(err)
	}
	key, err := fileKey(owner, req.GetKey())
	if err == nil {
		err = s.noFile("remove", req.GetKey(), st.Remove(ctx, key))
	}
	if err == nil {
		s.forgetFile(ctx, owner, req.GetKey())
	}
	return &navvyv1.FilesRemoveResponse{}, s.fail(err)
}

// taskFiles implements the TaskFiles service.
type taskFiles struct {
	navvyv1.UnimplementedTaskFilesServer
	*Server
}

// caller finds out who calls, as for values.
func (s *taskFiles) caller(ctx context.Context, attempt *navvyv1.AttemptRef, names string) (caller, error) {
	c, err := (&taskKV{Server: s.Server}).caller(ctx, attempt, names)
	if err == nil {
		_, err = s.store()
	}
	return c, err
}

// Put implements the call of that name.
func (s *taskFiles) Put(stream grpc.ClientStreamingServer[navvyv1.TaskFilesPutRequest, navvyv1.TaskFilesPutResponse]) error {
	if err := s.put(stream); err != nil {
		return s.fail(err)
	}
	return s.fail(stream.SendAndClose(&navvyv1.TaskFilesPutResponse{}))
}

func (s *taskFiles) put(stream grpc.ClientStreamingServer[navvyv1.TaskFilesPutRequest, navvyv1.TaskFilesPutResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	c, err := s.caller(stream.Context(), first.GetAttempt(), "")
	if err != nil {
		return err
	}
	h := first.GetPart().GetHeader()
	if h == nil {
		return errNoHeader
	}
	if h.GetOwner() != "" || h.GetIfAbsent() {
		return fmt.Errorf("a file of an attempt has neither an owner nor a condition: %w", navvy.ErrInvalid)
	}
	if _, err := fileKey(c.owner, h.GetKey()); err != nil {
		return err
	}
	a := s.await(c.owner, first.GetAttempt())
	key := a.folder() + "/" + h.GetKey()
	if err := place.CheckKey(key); err != nil {
		return err
	}
	// With the lease ends the right to write.
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	go (&taskKV{Server: s.Server}).endWith(ctx, cancel, c)
	in := &incomingFile{server: s.Server, part: first.GetPart(), recv: func() (*navvyv1.FilesPutRequest, error) {
		m, err := stream.Recv()
		return m.GetPart(), err
	}}
	if _, err = in.put(ctx, s.opts.Files, key, h); err != nil && ctx.Err() != nil && stream.Context().Err() == nil {
		return context.Cause(ctx)
	}
	return err
}

// Get implements the call of that name.
func (s *taskFiles) Get(req *navvyv1.TaskFilesGetRequest, stream grpc.ServerStreamingServer[navvyv1.FilesGetResponse]) error {
	c, err := s.caller(stream.Context(), req.GetAttempt(), req.GetCall().GetOwner())
	if err == nil {
		err = s.sendFile(stream, c.owner, req.GetCall())
	}
	return s.fail(err)
}

// Stat implements the call of that name.
func (s *taskFiles) Stat(ctx context.Context, req *navvyv1.TaskFilesStatRequest) (*navvyv1.FilesStatResponse, error) {
	c, err := s.caller(ctx, req.GetAttempt(), req.GetCall().GetOwner())
	if err == nil {
		err = s.publishOf(ctx, c.owner)
	}
	if err != nil {
		return nil, s.fail(err)
	}
	resp, err := s.statFile(ctx, c.owner, req.GetCall().GetKey())
	return resp, s.fail(err)
}
