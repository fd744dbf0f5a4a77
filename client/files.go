package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// Files are the files of one owner that a server keeps: what tasks find in their working
// directories, and have left there. Nobody else sees them but an admin. A name is 1 to 700
// bytes of UTF-8 without control characters, parts with slashes between them. A file
// appears whole or not at all. Its methods may be called at once.
type Files struct {
	rpc   navvyv1.FilesClient
	owner string
}

// Files gives the caller's own files.
func (c *Client) Files() Files { return Files{rpc: c.files} }

// FilesOf gives another owner's files. Admins only.
func (c *Client) FilesOf(owner string) Files { return Files{rpc: c.files, owner: owner} }

// File is what a server knows of a file.
type File struct {
	Key     string
	Size    int64 // bytes
	Changed time.Time
	// SHA256 is the checksum of what it holds, in hexadecimal digits; empty if nobody has
	// noted it, or in a list.
	SHA256 string
}

func toFile(m *navvyv1.File) File {
	return File{Key: m.GetKey(), Size: m.GetSize(), Changed: toTime(m.GetChanged()), SHA256: m.GetSha256()}
}

func checkFile(key string) error {
	if !utf8.ValidString(key) {
		return fmt.Errorf("file %q: want valid UTF-8: %w", key, navvy.ErrInvalid)
	}
	return nil
}

// PutFileOptions are how a file is put. The zero value is the default.
type PutFileOptions struct {
	// SHA256 is what the file holds, in hexadecimal digits, if it is known before: some
	// stores need not keep a copy meanwhile. Defaults to unknown.
	SHA256 string
	// IfAbsent puts it only if there is none; otherwise navvy.ErrExists.
	IfAbsent bool
}

// Put reads r to its end and makes what it holds the file of that name, in the place of
// one that is there. navvy.ErrExhausted says that there is no room for it.
func (f Files) Put(ctx context.Context, key string, r io.Reader, o PutFileOptions) (File, error) {
	if err := checkFile(key); err != nil {
		return File{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.rpc.Put(ctx)
	if err != nil {
		return File{}, api.FromWire(err)
	}
	header := &navvyv1.FilesPutHeader{Owner: api.Text(f.owner), Key: key, Sha256: api.Text(o.SHA256), IfAbsent: o.IfAbsent}
	if err := sendFile(header, r, stream.Send); err != nil {
		return File{}, err
	}
	m, err := stream.CloseAndRecv()
	return toFile(m.GetFile()), api.FromWire(err)
}

// PutKnown makes what another file of the same owner holds, whose SHA-256 in hexadecimal
// digits that is, the file of that name too, without sending it. navvy.ErrNotFound says that
// the server knows of none: then Put it.
func (f Files) PutKnown(ctx context.Context, key, sha256 string) (File, error) {
	if err := checkFile(key); err != nil {
		return File{}, err
	}
	m, err := f.rpc.PutKnown(ctx, &navvyv1.FilesPutKnownRequest{Owner: api.Text(f.owner), Key: key, Sha256: api.Text(sha256)})
	return toFile(m.GetFile()), api.FromWire(err)
}

// fileChunk is how many bytes are sent at once.
const fileChunk = 256 << 10

// sendFile sends what r holds. That the stream has ended is for its end to explain.
func sendFile(header *navvyv1.FilesPutHeader, r io.Reader, send func(*navvyv1.FilesPutRequest) error) error {
	part := &navvyv1.FilesPutRequest{Header: header}
	sum := sha256.New()
	for {
		chunk := make([]byte, fileChunk) // who receives it in this process has it then
		n, over, err := fillChunk(r, chunk)
		if err != nil {
			return err
		}
		part.Chunk = chunk[:n]
		sum.Write(part.GetChunk())
		if over {
			part.End = &navvyv1.FilesPutEnd{Sha256: hex.EncodeToString(sum.Sum(nil))}
		}
		if err := send(part); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return api.FromWire(err)
		}
		if over {
			return nil
		}
		part = &navvyv1.FilesPutRequest{}
	}
}

// fillChunk reads until the chunk is full or r is over. It is no io.ReadFull: a reader that
// ends with io.ErrUnexpectedEOF, as the body of an HTTP message that breaks off does, has failed.
func fillChunk(r io.Reader, chunk []byte) (n int, over bool, err error) {
	for n < len(chunk) {
		m, err := r.Read(chunk[n:])
		n += m
		if err == io.EOF { // the bare value is the end, and nothing else
			return n, true, nil
		} else if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// Get writes a file to w; navvy.ErrNotFound if there is none. After an error w has been
// written to in part; navvy.ErrCorrupt says that it is not what was put.
func (f Files) Get(ctx context.Context, key string, w io.Writer) (File, error) {
	if err := checkFile(key); err != nil {
		return File{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.rpc.Get(ctx, &navvyv1.FilesGetRequest{Owner: api.Text(f.owner), Key: key})
	if err != nil {
		return File{}, api.FromWire(err)
	}
	return receiveFile(stream, key, w)
}

// GetRange writes length bytes of a file to w, from offset on, or as many as there are; all
// if length is below zero. They are not held against the file's checksum. navvy.ErrInvalid
// says that the file ends before offset.
func (f Files) GetRange(ctx context.Context, key string, offset, length int64, w io.Writer) (File, error) {
	if offset == 0 && length < 0 {
		return f.Get(ctx, key, w)
	}
	if err := checkFile(key); err != nil {
		return File{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req := &navvyv1.FilesGetRequest{Owner: api.Text(f.owner), Key: key, Offset: offset}
	if length >= 0 {
		req.Length = &length
	}
	stream, err := f.rpc.Get(ctx, req)
	if err != nil {
		return File{}, api.FromWire(err)
	}
	file, n, _, err := receiveChunks(stream, w)
	if want := file.Size - offset; err == nil && (file.Key == "" || n != want && n != min(length, want)) {
		err = fmt.Errorf("file %q: %d bytes came, of %d from %d on: %w", key, n, file.Size, offset, navvy.ErrCorrupt)
	}
	return file, err
}

// receiveFile writes what comes to w, and checks it.
func receiveFile(stream grpc.ServerStreamingClient[navvyv1.FilesGetResponse], key string, w io.Writer) (File, error) {
	file, n, got, err := receiveChunks(stream, w)
	if err != nil {
		return file, err
	}
	if file.Key == "" || n != file.Size || file.SHA256 != "" && file.SHA256 != got {
		return file, fmt.Errorf("file %q: what came is not what was sent: %w", key, navvy.ErrCorrupt)
	}
	file.SHA256 = got
	return file, nil
}

// receiveChunks writes what comes to w, and tells how much that was, and its checksum.
func receiveChunks(stream grpc.ServerStreamingClient[navvyv1.FilesGetResponse], w io.Writer) (file File, n int64, got string, err error) {
	sum := sha256.New()
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return file, n, hex.EncodeToString(sum.Sum(nil)), nil
		} else if err != nil {
			return file, n, "", api.FromWire(err)
		}
		if m.GetFile() != nil {
			file = toFile(m.GetFile())
		}
		sum.Write(m.GetChunk())
		n += int64(len(m.GetChunk()))
		if _, err := w.Write(m.GetChunk()); err != nil {
			return file, n, "", err
		}
	}
}

// Stat tells of a file, with its checksum; navvy.ErrNotFound if there is none.
func (f Files) Stat(ctx context.Context, key string) (File, error) {
	if err := checkFile(key); err != nil {
		return File{}, err
	}
	m, err := f.rpc.Stat(ctx, &navvyv1.FilesStatRequest{Owner: api.Text(f.owner), Key: key})
	return toFile(m.GetFile()), api.FromWire(err)
}

// List tells of the files whose names begin with prefix, in the order of the store. An
// error is the last.
func (f Files) List(ctx context.Context, prefix string) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		if err := checkFile(prefix); err != nil {
			yield(File{}, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := f.rpc.List(ctx, &navvyv1.FilesListRequest{Owner: api.Text(f.owner), Prefix: prefix})
		receiveList(stream, err, yield)
	}
}

// receiveList tells of what comes; err is that of the call.
func receiveList(stream grpc.ServerStreamingClient[navvyv1.FilesListResponse], err error, yield func(File, error) bool) {
	for err == nil {
		var m *navvyv1.FilesListResponse
		m, err = stream.Recv()
		for _, file := range m.GetFiles() {
			if !yield(toFile(file), nil) {
				return
			}
		}
	}
	if !errors.Is(err, io.EOF) {
		yield(File{}, api.FromWire(err))
	}
}

// Remove takes a file away; navvy.ErrNotFound if there is none.
func (f Files) Remove(ctx context.Context, key string) error {
	if err := checkFile(key); err != nil {
		return err
	}
	_, err := f.rpc.Remove(ctx, &navvyv1.FilesRemoveRequest{Owner: api.Text(f.owner), Key: key})
	return api.FromWire(err)
}

// StatFile tells an attempt of a file of its owner, which must be leased to the caller:
// navvy.ErrLeaseLost if it is not any more, navvy.ErrNotFound if there is no such file.
func (w *Workers) StatFile(ctx context.Context, ref AttemptRef, key string) (File, error) {
	if err := checkFile(key); err != nil {
		return File{}, err
	}
	m, err := w.files.Stat(ctx, &navvyv1.TaskFilesStatRequest{Attempt: api.FromRef(ref.Task, ref.Attempt), Call: &navvyv1.FilesStatRequest{Key: key}})
	return toFile(m.GetFile()), api.FromWire(err)
}

// GetFile writes a file of an attempt's owner to to, with the errors of StatFile and of Files.Get.
func (w *Workers) GetFile(ctx context.Context, ref AttemptRef, key string, to io.Writer) (File, error) {
	if err := checkFile(key); err != nil {
		return File{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := w.files.Get(ctx, &navvyv1.TaskFilesGetRequest{Attempt: api.FromRef(ref.Task, ref.Attempt), Call: &navvyv1.FilesGetRequest{Key: key}})
	if err != nil {
		return File{}, api.FromWire(err)
	}
	return receiveFile(stream, key, to)
}

// ListFiles tells an attempt of the files of its owner whose names begin with prefix, with
// the errors of StatFile. An error is the last.
func (w *Workers) ListFiles(ctx context.Context, ref AttemptRef, prefix string) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		if err := checkFile(prefix); err != nil {
			yield(File{}, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := w.files.List(ctx, &navvyv1.TaskFilesListRequest{Attempt: api.FromRef(ref.Task, ref.Attempt), Call: &navvyv1.FilesListRequest{Prefix: prefix}})
		receiveList(stream, err, yield)
	}
}

// GetPackage writes the archive of the package that an attempt's service has to to, whoever
// owns it; with the errors of GetFile, and navvy.ErrConflict if it is not the one that the
// job was accepted with.
func (w *Workers) GetPackage(ctx context.Context, ref AttemptRef, to io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := w.files.GetPackage(ctx, &navvyv1.TaskFilesGetPackageRequest{Attempt: api.FromRef(ref.Task, ref.Attempt)})
	if err != nil {
		return api.FromWire(err)
	}
	_, err = receiveFile(stream, "the package", to)
	return err
}

// PutFile keeps a file that an attempt has made, until the attempt is its task's result:
// then it is the owner's, under that name. navvy.ErrLeaseLost if it is not leased to the
// caller any more.
func (w *Workers) PutFile(ctx context.Context, ref AttemptRef, key string, r io.Reader) error {
	if err := checkFile(key); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := w.files.Put(ctx)
	if err != nil {
		return api.FromWire(err)
	}
	attempt := api.FromRef(ref.Task, ref.Attempt)
	err = sendFile(&navvyv1.FilesPutHeader{Key: key}, r, func(m *navvyv1.FilesPutRequest) error {
		by := attempt
		attempt = nil
		return stream.Send(&navvyv1.TaskFilesPutRequest{Attempt: by, Part: m})
	})
	if err != nil {
		return err
	}
	_, err = stream.CloseAndRecv()
	return api.FromWire(err)
}
