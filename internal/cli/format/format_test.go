package format

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/navvy-run/navvy"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with the file of that name in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: %s", path, diff)
	}
}

// answers are one of each kind.
func answers(inputs ...[]byte) []*Answer {
	start := time.Date(2026, 3, 1, 12, 0, 0, 250_000_000, time.UTC)
	attempt := func(outcome navvy.Outcome, reason navvy.Reason, exit navvy.Exit, took time.Duration) navvy.Attempt {
		return navvy.Attempt{ID: navvy.AttemptID{Number: 1, Epoch: 1}, Outcome: outcome, Reason: reason, Exit: exit, Worker: "box", Slot: 1,
			Started: start, Finished: start.Add(took), Usage: navvy.Usage{User: took / 2, System: took / 4, MaxMemory: 12 << 20}, Output: navvy.Output{Stdout: 6}}
	}
	all := []*Answer{
		{Result: &navvy.Result{State: navvy.Succeeded, Attempts: 1, Attempt: attempt(navvy.OutcomeSucceeded, "", navvy.Exit{}, 1234567*time.Microsecond)}, Stdout: []byte("a <b>\n"), Stderr: []byte{}},
		{Result: &navvy.Result{State: navvy.Failed, Attempts: 3, Attempt: attempt(navvy.OutcomeFailed, navvy.ReasonExit, navvy.Exit{Code: 7}, time.Hour)}, Stdout: []byte("\xff\x00"), Stderr: []byte("no \"luck\", none\n")},
		{Result: &navvy.Result{State: navvy.Failed, Attempts: 1, Attempt: attempt(navvy.OutcomeFailed, navvy.ReasonTimeout, navvy.Exit{Signal: 15}, 100*time.Nanosecond)}},
		{Result: &navvy.Result{State: navvy.Failed, Attempts: 1, Attempt: attempt(navvy.OutcomeFailed, navvy.ReasonNotFound, navvy.Exit{}, 0)}},
	}
	all[3].Result.Message = "there is no program nope"
	all[3].Result.Worker = ""
	all[3].Result.Usage.MaxMemory = 0
	group := &all[1].Result.Usage // as a control group counts
	group.Read, group.Throttled, group.MaxPIDs = 4096, 1500*time.Millisecond, 3
	all[2].Result.Usage.Written, all[2].Result.Usage.OOMKills = 1<<40, 2
	for i, a := range all {
		a.Result.Task.Index = int64(i)
		a.Input = inputs[i]
	}
	return all
}

func raw() []*Answer {
	return answers([]byte("in.txt"), []byte("two\nlines"), []byte("\xfe"), nil)
}

func fields() []*Answer {
	all := answers(navvy.AppendFields(nil, "a", "b c"), navvy.AppendFields(nil, "", "ü"), navvy.AppendFields(nil, "\xc3", "\xbc"), navvy.AppendFields(nil, "x", "1"))
	for _, a := range all {
		a.Format = navvy.InputFields
	}
	return all
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		golden   string
		encoding Encoding
		columns  []string
		answers  []*Answer
	}{
		{"raw.jsonl", JSONL, nil, raw()},
		{"fields.jsonl", JSONL, []string{"name", "size"}, fields()},
		{"raw.json", JSON, nil, raw()[:2]},
		{"none.json", JSON, nil, nil},
		{"raw.csv", CSV, nil, raw()},
		{"fields.csv", CSV, nil, fields()},
		{"columns.csv", CSV, []string{"name", "full size", "more"}, fields()},
		{"none.csv", CSV, nil, nil},
	} {
		var b bytes.Buffer
		w, err := NewAnswers(&b, c.encoding, c.columns, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range c.answers {
			if err := w.Write(a); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		golden(t, c.golden, b.Bytes())
	}
}

// calls are answers of a function: a value, an exception, what there was of a value when
// the time was over, and what is no JSON.
func calls(encoding navvy.Encoding) []*Answer {
	all := raw()
	values := []string{`{"a": [1, "<b>"], "big": 12345678901234567890}`, `{"type":"ValueError","message":"too low","traceback":"…"}`, "12", "\x80\x05N."}
	all[1].Result.Reason, all[1].Result.Message, all[1].Result.Exit = navvy.ReasonException, "ValueError: too low", navvy.Exit{}
	all[3].Result.State, all[3].Result.Reason, all[3].Result.Message = navvy.Succeeded, "", ""
	for i, a := range all {
		a.Value, a.Encoding = []byte(values[i]), encoding
	}
	return all
}

func TestAnswersOfFunctions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		golden   string
		encoding Encoding
		values   navvy.Encoding
	}{
		{"calls.jsonl", JSONL, navvy.EncodingJSON}, {"calls.csv", CSV, navvy.EncodingJSON},
		{"pickles.jsonl", JSONL, navvy.EncodingPickle}, {"pickles.csv", CSV, navvy.EncodingPickle},
	} {
		var b bytes.Buffer
		w, err := NewAnswers(&b, c.encoding, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range calls(c.values) {
			err = errors.Join(err, w.Write(a))
		}
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		golden(t, c.golden, b.Bytes())
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestAnswersErrors(t *testing.T) {
	t.Parallel()
	for _, encoding := range []Encoding{JSONL, JSON, CSV} {
		w, err := NewAnswers(brokenWriter{}, encoding, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		bad := &Answer{Result: &navvy.Result{}, Format: navvy.InputFields, Input: []byte{200}}
		if err := w.Write(bad); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("an input that is none: %v", err)
		}
		for range 2000 {
			err = errors.Join(err, w.Write(raw()[0]))
		}
		if closed := w.Close(); !errors.Is(closed, io.ErrShortWrite) {
			t.Errorf("a writer that fails: %v, then %v", err, closed)
		}
	}
}

func TestJoblog(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	j, err := NewJoblog(&b, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range raw() {
		if err := j.Write(a.Result, "cat '"+string(a.Input)+"'"); err != nil {
			t.Fatal(err)
		}
	}
	if j, err = NewJoblog(&b, false); err != nil {
		t.Fatal(err)
	}
	if err := j.Write(&navvy.Result{}, "true"); err != nil {
		t.Fatal(err)
	}
	golden(t, "joblog.tsv", b.Bytes())
	if _, err := NewJoblog(brokenWriter{}, true); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a writer that fails: %v", err)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	err := Table(&b, []string{"ID", "NAME", "STATE"}, [][]string{
		{"4k2", "größte Läufe", "running"}, {"4k3abc", "", "queued"}, {"x", "\x1b[31mred\n\xff" + `\n`}, {"a", "b", "c", "dropped"}, {},
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "table.txt", b.Bytes())
}

func TestProgress(t *testing.T) {
	t.Parallel()
	half := Progress{Succeeded: 4210, Failed: 3, Running: 8, Total: 10_000, PerSecond: 120.4, Elapsed: 35 * time.Second}
	open := half
	open.Open = true
	var b strings.Builder
	for _, c := range []struct {
		name string
		p    Progress
	}{
		{"half", half},
		{"open", open},
		{"start", Progress{Total: 3, Running: 2}},
		{"empty", Progress{}},
		{"end", Progress{Succeeded: 1e9, Total: 1e9, PerSecond: 300_000, Elapsed: time.Hour}},
		{"slow", Progress{Failed: 1, Total: 1e15, PerSecond: 1e-5, Elapsed: 100 * time.Hour}},
		{"odd", Progress{Succeeded: 5, Total: 3, PerSecond: math.NaN()}},
	} {
		b.WriteString(c.name + "\n")
		for _, width := range []int{0, 120, 80, 60, 40, 20, 10, 1} {
			line := c.p.Line(width)
			if width > 0 && len(line) > width {
				t.Errorf("%s: %q is wider than %d", c.name, line, width)
			}
			b.WriteString(line + "|\n")
		}
	}
	golden(t, "progress.txt", []byte(b.String()))
}

func TestHuman(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 1500: "0.0ms", 3210 * time.Microsecond: "3.2ms", 350 * time.Millisecond: "350ms",
		999_600 * time.Microsecond: "1.0s", 12345 * time.Millisecond: "12.3s", 59_960 * time.Millisecond: "1m00s", 187 * time.Second: "3m07s",
		3599_700 * time.Millisecond: "1h00m", 125 * time.Minute: "2h05m", 24*time.Hour - time.Second: "1d00h", 99 * time.Hour: "4d03h",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%d) = %s, want %s", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", 100_000: "100,000"} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d) = %s, want %s", n, got, want)
		}
	}
	for r, want := range map[float64]string{0: "0/s", -1: "0/s", 1234.5: "1,235/s", 99.96: "100/s", 12.34: "12.3/s", 0.96: "1.0/s", 0.5: "30.0/min", 0.001: "3.6/h"} {
		if got := Rate(r); got != want {
			t.Errorf("Rate(%g) = %s, want %s", r, got, want)
		}
	}
	if got := Rate(math.NaN()); got != "0/s" {
		t.Errorf("Rate(NaN) = %s", got)
	}
}

func BenchmarkAnswers(b *testing.B) {
	for name, encoding := range map[string]Encoding{"jsonl": JSONL, "csv": CSV} {
		b.Run(name, func(b *testing.B) {
			w, err := NewAnswers(io.Discard, encoding, nil, false)
			if err != nil {
				b.Fatal(err)
			}
			a := raw()[0]
			b.ReportAllocs()
			for b.Loop() {
				if err := w.Write(a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestTransfer(t *testing.T) {
	t.Parallel()
	for want, tr := range map[string]Transfer{
		" 50%  [###############...............]  1/3 files  1.0 GiB/2.0 GiB  100 MiB/s  ETA 10s  7s": {Files: 1, TotalFiles: 3, Bytes: 1 << 30, TotalBytes: 2 << 30, PerSecond: 100 << 20, Elapsed: 7 * time.Second},
		"12 MiB  3.0 MiB/s  4s":     {TotalFiles: 1, Bytes: 12 << 20, TotalBytes: -1, PerSecond: 3 << 20, Elapsed: 4 * time.Second},
		"2/2 files  0 B  0 B/s  0s": {Files: 2, TotalFiles: 2},
	} {
		if got := tr.Line(90); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		for width := 1; width < 100; width++ {
			if line := tr.Line(width); len(line) > width {
				t.Errorf("%d columns: %q", width, line)
			}
		}
	}
	// A file that has grown meanwhile.
	if line := (Transfer{Bytes: 20, TotalBytes: 10}).Line(80); !strings.HasPrefix(line, "100%") {
		t.Errorf("%q", line)
	}
}
