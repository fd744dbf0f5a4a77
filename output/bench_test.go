package output_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/runner/process"
)

// benchSize is how much a process writes, and talkative the one that does.
const benchSize = 256 << 20

var talkative = []string{"/bin/dd", "if=/dev/zero", "bs=1M", fmt.Sprintf("count=%d", benchSize>>20), "status=none"}

// captureTo runs the process with its output captured in a new log, which so many
// readers follow, and syncs that. It returns how long all of it took.
func captureTo(b *testing.B, readers int) time.Duration {
	b.Helper()
	path := filepath.Join(b.TempDir(), "log")
	log, err := output.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	begun := time.Now()
	out := output.Capture(log)
	p, err := process.Start(&process.Config{Args: talkative, Stdout: out.Stdout(), Stderr: out.Stderr()})
	if err != nil {
		b.Fatal(err)
	}
	var following sync.WaitGroup
	for range readers {
		following.Go(func() {
			if n, err := io.Copy(hole{}, log.Reader(context.Background())); err != nil || n < benchSize {
				b.Errorf("a reader got %d bytes: %v", n, err)
			}
		})
	}
	_, err = p.Wait(b.Context())
	whole, finishErr := out.Finish()
	if err := errors.Join(err, finishErr); err != nil || whole.Stdout != benchSize {
		b.Fatalf("%d bytes are captured: %v", whole.Stdout, err)
	}
	if readers == 0 {
		err = log.Sync() // as the copy does that it is compared with
	}
	log.Finish(nil)
	following.Wait()
	took := time.Since(begun)
	if err := errors.Join(err, log.Close(), os.Remove(path)); err != nil {
		b.Fatal(err)
	}
	return took
}

// hole takes all bytes, and unlike io.Discard does not bring its own way to read them.
type hole struct{}

func (hole) Write(p []byte) (int, error) { return len(p), nil }

// copyPipe runs the process and copies its pipe to a file, in pieces of 256 KiB.
func copyPipe(b *testing.B) time.Duration {
	b.Helper()
	path := filepath.Join(b.TempDir(), "copy")
	file, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	begun := time.Now()
	c := exec.CommandContext(b.Context(), talkative[0], talkative[1:]...)
	pipe, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{file}, struct{ io.Reader }{pipe}, make([]byte, 256<<10))
	err = errors.Join(err, c.Wait(), file.Sync())
	took := time.Since(begun)
	if err := errors.Join(err, file.Close(), os.Remove(path)); err != nil {
		b.Fatal(err)
	}
	return took
}

// BenchmarkCapture compares the capture of a process's output in a log with a
// plain loop that copies the pipe to a file. The two take turns; "ratio" is how
// many times as fast the capture is: at least 0.8.
func BenchmarkCapture(b *testing.B) {
	var plain, captured time.Duration
	for b.Loop() {
		plain += copyPipe(b)
		captured += captureTo(b, 0)
	}
	mb := float64(b.N) * benchSize / 1e6
	b.ReportMetric(mb/plain.Seconds(), "copy-MB/s")
	b.ReportMetric(mb/captured.Seconds(), "capture-MB/s")
	b.ReportMetric(plain.Seconds()/captured.Seconds(), "ratio")
}

// BenchmarkReaders compares what 64 readers get together, who follow a process's
// output live, with one reader. They take turns; "ratio" is how many times as
// many bytes a second the 64 get: at least 5.
func BenchmarkReaders(b *testing.B) {
	const many = 64
	var one, all time.Duration
	for b.Loop() {
		one += captureTo(b, 1)
		all += captureTo(b, many)
	}
	mb := float64(b.N) * benchSize / 1e6
	b.ReportMetric(mb/one.Seconds(), "one-MB/s")
	b.ReportMetric(many*mb/all.Seconds(), "all-MB/s")
	b.ReportMetric(many*one.Seconds()/all.Seconds(), "ratio")
}

// BenchmarkLines has 1,000 readers follow a log that gets a line each ten
// milliseconds. "p99-ms" is how late a line comes to its reader, of all lines and
// readers 99 of 100: at most 100.
func BenchmarkLines(b *testing.B) {
	const many, every = 1000, 10 * time.Millisecond
	for name, create := range map[string]func(b *testing.B) *output.Log{
		"memory": func(*testing.B) *output.Log { return output.NewLog(nil) },
		"disk": func(b *testing.B) *output.Log {
			l, err := output.Create(filepath.Join(b.TempDir(), "log"))
			if err != nil {
				b.Fatal(err)
			}
			return l
		},
	} {
		b.Run(name, func(b *testing.B) {
			log := create(b)
			out := output.Capture(log)
			late := make([][]time.Duration, many)
			begun := time.Now()
			var readers sync.WaitGroup
			for i := range late {
				late[i] = make([]time.Duration, 0, b.N)
				readers.Go(func() {
					late[i] = latencies(b, log, begun, late[i])
				})
			}
			line := make([]byte, 80)
			tick := time.NewTicker(every)
			defer tick.Stop()
			for range b.N { // not b.Loop: the readers must know how much comes
				<-tick.C
				binary.BigEndian.PutUint64(line, uint64(time.Since(begun)))
				if _, err := out.Stdout().Write(line); err != nil {
					b.Fatal(err)
				}
			}
			log.Finish(nil)
			readers.Wait()
			all := slices.Sorted(slices.Values(slices.Concat(late...)))
			if len(all) != many*b.N {
				b.Fatalf("%d lines came, want %d", len(all), many*b.N)
			}
			b.ReportMetric(all[len(all)/2].Seconds()*1e3, "p50-ms")
			b.ReportMetric(all[len(all)*99/100].Seconds()*1e3, "p99-ms")
			b.ReportMetric(all[len(all)-1].Seconds()*1e3, "max-ms")
			if err := log.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// latencies reads lines to the end of the log, and notes how late each comes.
func latencies(b *testing.B, log *output.Log, begun time.Time, late []time.Duration) []time.Duration {
	r, line := log.Reader(context.Background()), make([]byte, output.HeaderSize+80)
	for {
		if _, err := io.ReadFull(r, line); errors.Is(err, io.EOF) || errors.Is(err, navvy.ErrClosed) {
			return late
		} else if err != nil {
			b.Error(err)
			return late
		}
		sent := time.Duration(binary.BigEndian.Uint64(line[output.HeaderSize:]))
		late = append(late, time.Since(begun)-sent)
	}
}
