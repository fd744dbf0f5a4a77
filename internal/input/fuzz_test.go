package input

import (
	"encoding/csv"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"pgregory.net/rapid"
)

func FuzzLines(f *testing.F) {
	f.Add("a\nb\r\n\nc", false)
	f.Add("a\x00\x00b", true)
	f.Fuzz(func(t *testing.T, text string, null bool) {
		separator := "\n"
		if null {
			separator = "\x00"
		}
		rows, err := readAll(t, nil, &Options{Stdin: strings.NewReader(text), Null: null})
		if err != nil {
			t.Fatal(err)
		}
		got := make([]string, len(rows))
		for i, row := range rows {
			got[i] = row[0]
		}
		whole := strings.Join(got, separator)
		if len(got) > 0 && strings.HasSuffix(text, separator) {
			whole += separator
		}
		if whole != text {
			t.Errorf("%q came back as %q", text, got)
		}
	})
}

func FuzzCSV(f *testing.F) {
	f.Add("a,b\n1,\"2\n\"\"3\"\n")
	f.Add("a\n\"")
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := readAll(t, nil, &Options{Stdin: strings.NewReader(text), Comma: ','})
		if err != nil && !errors.Is(err, navvy.ErrInvalid) {
			t.Fatal(err)
		}
		want, wantErr := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\ufeff"))).ReadAll()
		if wantErr == nil && err == nil && len(rows) != len(want)-1 {
			t.Errorf("%d records behind the header, not %d", len(rows), len(want)-1)
		}
		if wantErr != nil && err == nil {
			t.Errorf("no error where encoding/csv says %v", wantErr)
		}
	})
}

func FuzzSplit(f *testing.F) {
	f.Add("wc -l ::: a b :::+ c d :::: f ::::+ g")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		command, sources, err := Split(args)
		if err != nil {
			if !errors.Is(err, navvy.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		values := len(command)
		for _, s := range sources {
			values += len(s.Words)
			if s.File != "" {
				values++
			}
		}
		for _, arg := range args {
			if isSeparator(arg) {
				values++
			}
		}
		if values != len(args) {
			t.Errorf("%q has %d parts, but %q and %+v have %d", line, len(args), command, sources, values)
		}
	})
}

// However a stream is cut into pieces, the same inputs come out.
func TestPieces(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.StringMatching(`[^\n]{0,9}`)).Draw(t, "lines")
		text := strings.Join(append(want, ""), "\n")
		var pieces []io.Reader
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			pieces, rest = append(pieces, strings.NewReader(rest[:n])), rest[n:]
		}
		r, err := Open(nil, &Options{Stdin: io.MultiReader(pieces...), BatchInputs: rapid.IntRange(1, 5).Draw(t, "batch")})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for err == nil {
			var inputs [][]byte
			inputs, err = r.Batch(t.Context())
			for _, in := range inputs {
				got = append(got, string(in))
			}
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") || len(got) != len(want) || !errors.Is(err, io.EOF) {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	})
}

func BenchmarkMillion(b *testing.B) {
	var text strings.Builder
	for range 1_000_000 {
		text.WriteString("sample-000017.fq,x\n")
	}
	path := filepath.Join(b.TempDir(), "inputs")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	for name, o := range map[string]Options{"lines": {}, "columns": {ColumnSeparator: ","}, "csv": {Comma: ','}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := Open([]Source{{File: path}}, &o)
				n := 0
				for err == nil {
					var inputs [][]byte
					inputs, err = r.Batch(b.Context())
					n += len(inputs)
				}
				if n < 999_999 || !errors.Is(err, io.EOF) {
					b.Fatal(n, err)
				}
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
