package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/output"
)

// spool is the output of one attempt on its way to the server: in a file, from which
// it goes there as it comes, and once more from where a server that was restarted
// wants it. It lives until the report is settled. It implements output.Sink.
type spool struct {
	worker *Worker
	ref    client.AttemptRef
	name   string        // of the file
	ended  chan struct{} // closed when no more comes, and report is set; nil before the first frames

	mu     sync.Mutex
	log    *output.Log // nil before the first frames
	sent   int64
	moved  chan struct{} // closed when sent grows, or lost is set; nil before the first frames
	lost   bool          // the server does not want it
	report *finished
}

// source is read from any offset; io.EOF is at the end of all that will ever come.
type source interface {
	Read(ctx context.Context, p []byte, off int64) (int, error)
}

const (
	// maxAhead is how many bytes of an attempt's output may wait for the server; who
	// writes more waits, too.
	maxAhead = 256 << 20
	// sendBuffer is how much is sent at once.
	sendBuffer = 512 << 10
	// sendAhead is how many of them may be under way.
	sendAhead = 8
	// sendPause is between two tries to send to a server that is there and fails.
	sendPause = time.Second
)

// newSpool is for an attempt with this token. Most attempts write little: nothing is
// made for them.
func (w *Worker) newSpool(r client.AttemptRef, token string) *spool {
	return &spool{worker: w, ref: r, name: token}
}

func (s *spool) path() string { return filepath.Join(s.worker.opts.Dir, spoolDir, s.name) }

// open is called before the first frames are there. It is false if no more are to come:
// an attempt that was given up may still write.
func (s *spool) open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.report == nil && s.ended == nil {
		s.ended, s.moved = make(chan struct{}), make(chan struct{})
	}
	return s.report == nil
}

// Upload implements output.Sink.
func (s *spool) Upload(frames []byte) error {
	if s.log == nil {
		if !s.open() {
			return fmt.Errorf("output of %s: it has ended: %w", s.ref.Task, navvy.ErrLeaseLost)
		}
		_ = os.Remove(s.path()) // of an attempt with this name the worker would know
		log, err := output.Create(s.path())
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.log = log
		over := s.report != nil
		s.mu.Unlock()
		if over { // meanwhile: finish has not seen it
			log.Finish(nil)
		}
		s.worker.uploads.Go(func() { s.send(s.worker.sending, log) })
	}
	if err := s.awaitRoom(); err != nil {
		return err
	}
	return s.log.Append(frames)
}

// awaitRoom waits until the server has enough of the output.
func (s *spool) awaitRoom() error {
	for {
		length, _ := s.log.Sum()
		s.mu.Lock()
		ahead, moved, lost := length-s.sent, s.moved, s.lost
		s.mu.Unlock()
		switch {
		case lost:
			return fmt.Errorf("output of %s: %w", s.ref.Task, navvy.ErrLeaseLost)
		case ahead < maxAhead:
			return nil
		}
		select {
		case <-moved:
		case <-s.worker.sending.Done():
			return context.Cause(s.worker.sending)
		}
	}
}

// move notes how much the server has, or that it wants no more.
func (s *spool) move(sent int64, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent, s.lost = sent, s.lost || lost
	close(s.moved)
	s.moved = make(chan struct{})
}

// conclude notes the report, which nobody else knows yet; no more output is taken.
func (s *spool) conclude(f *finished) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report = f
	if s.ended != nil {
		f.settled = make(chan struct{})
	}
}

// finish says that no more output comes. The report follows the output.
func (s *spool) finish() {
	s.mu.Lock()
	log, ended := s.log, s.ended
	s.mu.Unlock()
	if ended != nil {
		close(ended)
	}
	if log != nil {
		log.Finish(nil)
	}
}

// send brings the output to each server that asks for it, until one has settled the report.
func (s *spool) send(ctx context.Context, from source) {
	defer s.close()
	for {
		l, err := s.worker.awaitLink(ctx)
		if err != nil {
			return // the worker ends
		}
		err = s.push(l.ctx, from)
		if err != nil && l.ctx.Err() != nil {
			continue
		}
		if err != nil && !final(err) {
			s.worker.log.Warn("output waits for the server", "task", s.ref.Task, "error", err)
			s.pause(l.ctx)
			continue
		}
		if err != nil {
			s.move(0, true) // whatever is reported, the server judges
		}
		select {
		case <-ctx.Done():
			return
		case <-s.ended:
		}
		if s.deliver(ctx, l) {
			return
		}
	}
}

// final tells whether an error of the server will be the same however often it is tried.
func final(err error) bool {
	return errors.Is(err, navvy.ErrLeaseLost) || errors.Is(err, navvy.ErrExhausted) || errors.Is(err, navvy.ErrInvalid) ||
		errors.Is(err, navvy.ErrNotFound) || errors.Is(err, navvy.ErrDenied) || errors.Is(err, navvy.ErrCorrupt)
}

func (s *spool) pause(ctx context.Context) {
	timer := time.NewTimer(sendPause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// push sends all that there is and will be, from where the server wants it.
func (s *spool) push(ctx context.Context, from source) error {
	stream, err := s.worker.server.WriteOutput(ctx, s.ref)
	if err != nil {
		return err
	}
	defer stream.Close()
	off, err := stream.Taken()
	if err != nil {
		return err
	}
	s.move(off, false)
	buf := make([]byte, sendBuffer)
	for ahead := 0; ; {
		n, err := from.Read(ctx, buf, off)
		over := errors.Is(err, io.EOF)
		if err != nil && !over {
			return err
		}
		if !over {
			if err := stream.Send(buf[:n]); err != nil {
				return err
			}
			off += int64(n)
			ahead++
		}
		for ; ahead == sendAhead || over && ahead > 0; ahead-- {
			taken, err := stream.Sent()
			if err != nil {
				return err
			}
			s.move(taken, false)
		}
		if over {
			return nil
		}
	}
}

// deliver reports the attempt in a session whose server has the output, and tells
// whether it was settled before the session ended.
func (s *spool) deliver(ctx context.Context, l *link) bool {
	w, f := s.worker, s.report
	w.mu.Lock()
	if w.link == l && f.spool == s {
		f.reported = true
		w.reports = append(w.reports, f.Report)
		w.wakeLocked()
	}
	w.mu.Unlock()
	select {
	case <-f.settled:
		return true
	case <-ctx.Done():
	case <-l.ctx.Done():
	}
	return false
}

// close frees the spool, and removes the file unless a later worker is to send it.
func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log != nil {
		_ = s.log.Close() // what was appended is in the file
	}
	if s.report != nil {
		select {
		case <-s.report.settled:
			_ = os.Remove(s.path())
		default:
		}
	}
}

// fileSource is the output of an attempt that an earlier worker has carried out.
type fileSource struct {
	file   *os.File
	length int64
}

// Read implements source.
func (f *fileSource) Read(_ context.Context, p []byte, off int64) (int, error) {
	if off >= f.length {
		return 0, io.EOF
	}
	n, err := f.file.ReadAt(p[:min(int64(len(p)), f.length-off)], off)
	if n > 0 {
		return n, nil
	}
	return 0, fmt.Errorf("output kept in %s ends after %d of %d bytes (%w): %w", f.file.Name(), off, f.length, err, navvy.ErrCorrupt)
}
