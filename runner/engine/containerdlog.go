package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/navvy-run/navvy"
)

// logs reads the file that containerd writes, from its beginning, as it grows. It is complete
// when the container has ended.
func (c *containerd) logs(ctx context.Context, id string, over <-chan struct{}, stdout, stderr io.Writer) (whole bool, err error) {
	main, err := c.container(ctx, id)
	if err != nil {
		return false, err
	}
	r, err := c.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: main})
	if err != nil {
		return false, fmt.Errorf("containerd: %w", err)
	}
	path := r.Status.LogPath
	grown, stop, err := c.tails.follow(filepath.Dir(path))
	if err != nil {
		return false, err
	}
	defer stop()
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, kinded{errGone, err}
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	lines := &lineReader{to: [2]io.Writer{stdout, stderr}}
	for last := false; ; {
		if _, err := io.Copy(lines, file); err != nil {
			return false, err
		}
		if last {
			return true, lines.end()
		}
		select {
		case <-grown:
		case <-over:
			last = true // all is in the file, and perhaps not read
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// lineReader takes a log in the format of the container runtime interface, in any pieces:
//
//	2016-10-06T00:17:09.669794202Z stdout F what was written
//
// F says that the line was whole, and so had a newline behind it, P that it goes on.
// https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md
type lineReader struct {
	to   [2]io.Writer
	rest []byte          // a line whose end is not there yet
	held [2]bytes.Buffer // what is to be written
}

// longestLine bounds a line: containerd writes pieces of 16 KiB.
const longestLine = 1 << 20

// Write implements io.Writer.
func (r *lineReader) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, more, found := bytes.Cut(p, []byte{'\n'})
		if !found {
			break
		}
		p = more
		if len(r.rest) > 0 {
			line = append(r.rest, line...)
			r.rest = r.rest[:0]
		}
		if err := r.line(line); err != nil {
			return 0, err
		}
	}
	if r.rest = append(r.rest, p...); len(r.rest) > longestLine {
		return 0, fmt.Errorf("containerd: a line of a log has more than %d bytes: %w", longestLine, navvy.ErrCorrupt)
	}
	for i := range r.held {
		if r.held[i].Len() == 0 {
			continue
		}
		if _, err := r.to[i].Write(r.held[i].Bytes()); err != nil {
			return 0, err
		}
		r.held[i].Reset()
	}
	return n, nil
}

// line takes one line, without its newline.
func (r *lineReader) line(line []byte) error {
	const parts = 4
	fields := bytes.SplitN(line, []byte{' '}, parts)
	if len(fields) < parts {
		return fmt.Errorf("containerd: %.100q is no line of a log: %w", line, navvy.ErrCorrupt)
	}
	stream := 0
	switch string(fields[1]) {
	case "stdout":
	case "stderr":
		stream = 1
	default:
		return fmt.Errorf("containerd: a log has a stream %.20q: %w", fields[1], navvy.ErrCorrupt)
	}
	tags, _, _ := bytes.Cut(fields[2], []byte{':'})
	_, _ = r.held[stream].Write(fields[3]) // never fails
	if string(tags) == "F" {
		_ = r.held[stream].WriteByte('\n') // never fails
	}
	return nil
}

// end tells whether the log ended with a whole line.
func (r *lineReader) end() error {
	if len(r.rest) > 0 {
		return fmt.Errorf("containerd: a log ends within a line: %w", io.ErrUnexpectedEOF)
	}
	return nil
}

// tails tells who reads logs of what is written to them.
type tails struct {
	watcher *fsnotify.Watcher
	running sync.WaitGroup

	mu  sync.Mutex
	dir map[string]map[chan struct{}]bool
}

func newTails() (*tails, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("containerd: %w", err)
	}
	t := &tails{watcher: w, dir: map[string]map[chan struct{}]bool{}}
	t.running.Go(t.run)
	return t, nil
}

// run passes on what the kernel tells. Of what it lost, all are told.
func (t *tails) run() {
	for {
		select {
		case e, ok := <-t.watcher.Events:
			if !ok {
				return
			}
			t.mu.Lock()
			tell(t.dir[filepath.Dir(e.Name)])
			t.mu.Unlock()
		case _, ok := <-t.watcher.Errors:
			if !ok {
				return
			}
			t.mu.Lock()
			for _, list := range t.dir {
				tell(list)
			}
			t.mu.Unlock()
		}
	}
}

// follow gives a channel that has something whenever a file in a directory may have grown.
func (t *tails) follow(dir string) (grown <-chan struct{}, stop func(), err error) {
	c := make(chan struct{}, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dir[dir] == nil {
		if err := t.watcher.Add(dir); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return nil, nil, kinded{errGone, err}
			}
			return nil, nil, fmt.Errorf("containerd: watch %s: %w", dir, err)
		}
		t.dir[dir] = map[chan struct{}]bool{}
	}
	t.dir[dir][c] = true
	return c, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if delete(t.dir[dir], c); len(t.dir[dir]) == 0 {
			delete(t.dir, dir)
			_ = t.watcher.Remove(dir) // it may be gone
		}
	}, nil
}

func (t *tails) close() error {
	err := t.watcher.Close()
	t.running.Wait()
	return err
}
