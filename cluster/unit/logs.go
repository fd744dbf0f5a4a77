package unit

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// logs cuts logs that get too long. Units write their logs themselves, so that they can go on
// without a supervisor; it looks only when somebody has written.
type logs struct {
	watcher *fsnotify.Watcher
	size    func(unit string) int64
	log     *slog.Logger
	over    chan struct{}
}

// logPause is how long writing is let go on before somebody looks.
const logPause = 250 * time.Millisecond

func watchLogs(dir string, size func(unit string) int64, log *slog.Logger) (*logs, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := w.AddWith(filepath.Join(dir, logDir), fsnotify.WithBufferSize(64<<10)); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	l := &logs{watcher: w, size: size, log: log, over: make(chan struct{})}
	go l.run()
	return l, nil
}

func (l *logs) close() {
	_ = l.watcher.Close()
	<-l.over
}

func (l *logs) run() {
	defer close(l.over)
	written := map[string]bool{}
	var look <-chan time.Time
	for {
		select {
		case e, ok := <-l.watcher.Events:
			if !ok {
				return
			}
			if e.Has(fsnotify.Write) && strings.HasSuffix(e.Name, ".log") {
				written[e.Name] = true
				if look == nil {
					look = time.After(logPause)
				}
			}
		case err, ok := <-l.watcher.Errors:
			if !ok {
				return
			}
			l.log.Warn("logs are not watched well", "error", err)
		case <-look:
			look = nil
			for path := range written {
				unit := strings.TrimSuffix(filepath.Base(path), ".log")
				if err := cutLog(path, l.size(unit)); err != nil && !errors.Is(err, os.ErrNotExist) {
					l.log.Error("a log cannot be cut", "file", path, "error", err)
				}
			}
			clear(written)
		}
	}
}

// cutLog moves what a log holds to the file of old ones if it is longer than size, where
// at most as much is kept. Whoever writes it goes on behind what is left. Where the file
// system cannot cut the front off a file, what is written at that moment may be lost.
func cutLog(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() <= size {
		return err
	}
	const block = 4096                       // of most file systems
	cut := (info.Size() - 1) / block * block // which must not be all of it
	if err := keepOld(f, path, max(0, cut-size), cut); err != nil {
		return err
	}
	if unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, cut) == nil {
		return nil
	}
	return f.Truncate(0)
}

// keepOld makes a part of a log the file of old ones.
func keepOld(f *os.File, path string, from, to int64) error {
	old, err := os.OpenFile(oldLog(path)+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(old, io.NewSectionReader(f, from, to-from))
	if err = errors.Join(err, old.Close()); err == nil {
		err = os.Rename(old.Name(), oldLog(path))
	}
	return err
}
