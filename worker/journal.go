package worker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
)

// journal keeps reports that could not be settled, in the file "reports" of the
// worker's directory: a header, then for each report its length and the CRC-32C of its
// bytes, four bytes each, the lowest first, and its bytes, client.MarshalReport. A
// record that is cut short, or whose checksum is wrong, ends the file: it was being
// written when the worker died. The file is empty again when all is settled.
type journal struct {
	dir string

	mu   sync.Mutex
	file *os.File
	size int64
}

const (
	reportsFile   = "reports"
	spoolDir      = "spool"
	reportsHeader = "navvy reports 1\n"
	// maxReport is longer than any report.
	maxReport = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openJournal opens the journal in a worker's directory, or makes one.
func openJournal(dir string) (*journal, error) {
	if err := os.MkdirAll(filepath.Join(dir, spoolDir), 0o700); err != nil {
		return nil, fmt.Errorf("directory of the worker: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, reportsFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("directory of the worker: %w", err)
	}
	return &journal{dir: dir, file: file}, nil
}

// load gives the reports that an earlier worker has left.
func (j *journal) load() ([]client.Report, error) {
	b, err := os.ReadFile(j.file.Name())
	if err != nil {
		return nil, fmt.Errorf("read the reports of an earlier worker: %w", err)
	}
	reports, size, err := parseReports(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", j.file.Name(), err)
	}
	j.size = size
	return reports, j.file.Truncate(size)
}

// parseReports reads a journal as far as it is whole; size is how far that is.
func parseReports(b []byte) (reports []client.Report, size int64, err error) {
	if len(b) == 0 {
		return nil, 0, nil
	}
	if len(b) < len(reportsHeader) && reportsHeader[:len(b)] == string(b) {
		return nil, 0, nil
	}
	if len(b) < len(reportsHeader) || string(b[:len(reportsHeader)]) != reportsHeader {
		return nil, 0, fmt.Errorf("this is no journal of reports that this navvy can read: %w", navvy.ErrCorrupt)
	}
	rest := b[len(reportsHeader):]
	for len(rest) >= 8 {
		n, sum := binary.LittleEndian.Uint32(rest), binary.LittleEndian.Uint32(rest[4:])
		if n > maxReport || int(n) > len(rest)-8 || crc32.Checksum(rest[8:8+n], castagnoli) != sum {
			break
		}
		r, err := client.UnmarshalReport(rest[8 : 8+n])
		if err != nil {
			return nil, 0, err
		}
		reports = append(reports, r)
		rest = rest[8+n:]
	}
	return reports, int64(len(b) - len(rest)), nil
}

// add makes reports durable.
func (j *journal) add(reports []client.Report) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b []byte
	if j.size == 0 {
		b = append(b, reportsHeader...)
	}
	for i := range reports {
		r, err := client.MarshalReport(&reports[i])
		if err != nil {
			return err
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(len(r)))
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(r, castagnoli))
		b = append(b, r...)
	}
	if _, err := j.file.WriteAt(b, j.size); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.size += int64(len(b))
	return nil
}

// clear forgets all reports: they are settled. A nil journal has none.
func (j *journal) clear() {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.size > 0 && j.file.Truncate(0) == nil {
		j.size = 0 // otherwise they are reported again, which does no harm
	}
}

func (j *journal) close() error { return j.file.Close() }

// keep makes finished attempts durable that the server has not settled.
func (w *Worker) keep(list ...*finished) {
	if w.journal == nil {
		return
	}
	var reports []client.Report
	w.mu.Lock()
	for _, f := range list {
		if !f.kept && w.unsettled[refOf(&f.Report)] == f {
			f.kept = true
			reports = append(reports, f.Report)
		}
	}
	w.mu.Unlock()
	for _, f := range list {
		if f.spool != nil && f.spool.log != nil {
			if err := f.spool.log.Sync(); err != nil {
				w.log.Error("output that waits for the server is not durable", "task", f.Task, "error", err)
			}
		}
	}
	if len(reports) == 0 {
		return
	}
	if err := w.journal.add(reports); err != nil {
		w.mu.Lock()
		for _, f := range list {
			f.kept = false // the next loss of the server tries again
		}
		w.mu.Unlock()
		w.log.Error("answers that wait for the server are not durable", "dir", w.opts.Dir, "error", err)
	}
}

// recall takes up what an earlier worker has finished and could not report.
func (w *Worker) recall(ctx context.Context) error {
	reports, err := w.journal.load()
	if err != nil {
		return err
	}
	spools := map[string]bool{}
	for i := range reports {
		r := &reports[i]
		f := &finished{Report: *r, kept: true}
		if r.Attempt.Output.Logged {
			if err := w.recallOutput(ctx, f); err != nil {
				w.log.Error("an attempt's output is gone, it will run again", "task", r.Task, "error", err)
				continue // without a report the server gives the task to somebody else
			}
			spools[f.spool.name] = true
		}
		w.unsettled[refOf(r)] = f
		w.outliving[refOf(r)] = true // what kind it was of the report does not say
	}
	return w.removeSpools(spools)
}

// recallOutput sends the output of a finished attempt from the file that an earlier worker made.
func (w *Worker) recallOutput(ctx context.Context, f *finished) error {
	ref := refOf(&f.Report)
	s := w.newSpool(ref, token(ref))
	file, err := os.Open(s.path())
	if err != nil {
		return err
	}
	s.open()
	f.spool = s
	s.conclude(f)
	s.finish()
	w.uploads.Go(func() {
		defer file.Close()
		s.send(ctx, &fileSource{file: file, length: f.Attempt.Output.Length})
	})
	return nil
}

// removeSpools removes what no report names.
func (w *Worker) removeSpools(keep map[string]bool) error {
	dir := filepath.Join(w.opts.Dir, spoolDir)
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("directory of the worker: %w", err)
	}
	for _, e := range list {
		if keep[e.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("directory of the worker: %w", err)
		}
	}
	return nil
}
