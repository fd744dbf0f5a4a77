package input

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/navvy-run/navvy"
)

// readAll gives the inputs as lists of fields, up to the error that ends them, nil for io.EOF.
func readAll(t testing.TB, sources []Source, o *Options) ([][]string, error) {
	t.Helper()
	r, err := Open(sources, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	var all [][]string
	for {
		inputs, err := r.Batch(t.Context())
		for _, in := range inputs {
			fields, err := r.Format().Fields(in)
			if err != nil {
				t.Fatal(err)
			}
			if r.Fields() > 0 && len(fields) != r.Fields() {
				t.Fatalf("an input of %d fields: %q, not %d", len(fields), fields, r.Fields())
			}
			all = append(all, fields)
		}
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// shape writes inputs as "a b|c d".
func shape(rows [][]string) string {
	lines := make([]string, len(rows))
	for i, row := range rows {
		lines[i] = strings.Join(row, " ")
	}
	return strings.Join(lines, "|")
}

// files writes files into a new folder and makes it the place of paths that begin with "@".
func files(t *testing.T, content map[string]string) func(args string) []Source {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(args string) []Source {
		_, sources, err := Split(strings.Fields(strings.ReplaceAll(args, "@", dir+"/")))
		if err != nil {
			t.Fatal(err)
		}
		return sources
	}
}

// What GNU parallel 20221122 makes of the same sources, but for what is noted.
func TestCombinations(t *testing.T) {
	t.Parallel()
	at := files(t, map[string]string{"123": "1\n2\n3\n", "xy": "x\ny", "none": ""})
	for args, want := range map[string]string{
		"::: a b":                      "a|b",
		"::: a b ::: c d":              "a c|a d|b c|b d",
		"::: a b :::+ x y":             "a x|b y",
		"::: a b :::+ x y ::: 1 2":     "a x 1|a x 2|b y 1|b y 2",
		"::: 1 2 ::: a b :::+ x y":     "1 a x|1 b y|2 a x|2 b y",
		"::: a b :::+ c d :::+ e f":    "a c e|b d f",
		":::: @123":                    "1|2|3",
		":::: @123 @xy":                "1 x|1 y|2 x|2 y|3 x|3 y",
		":::: @xy ::::+ @xy":           "x x|y y",
		"::: a b :::: @xy":             "a x|a y|b x|b y",
		":::: @123 ::: a b":            "1 a|1 b|2 a|2 b|3 a|3 b",
		":::: - ::: a b":               "q a|q b|r a|r b",
		":::: -":                       "q|r",
		"":                             "q|r",
		":::":                          "",
		":::: @none":                   "",
		"::: a b :::: @none":           "", // GNU parallel takes an empty source for an empty value
		":::: @none ::: a b":           "",
		"::: a b ::: c ::: d e ::: f ": "a c d f|a c e f|b c d f|b c e f",
	} {
		rows, err := readAll(t, at(args), &Options{Stdin: strings.NewReader("q\nr\n")})
		if got := shape(rows); got != want || err != nil {
			t.Errorf("%q: got %q, %v; want %q", args, got, err, want)
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long", bufferSize)
	for _, c := range []struct {
		text string
		o    Options
		want [][]string
	}{
		{"", Options{}, nil},
		{"\n", Options{}, [][]string{{""}}},
		{"a b\r\n\nc", Options{}, [][]string{{"a b\r"}, {""}, {"c"}}},
		{"a\x00\xff\nb\n", Options{}, [][]string{{"a\x00\xff"}, {"b"}}},
		{"a\nb\x00\x00c", Options{Null: true}, [][]string{{"a\nb"}, {""}, {"c"}}},
		{long + "\n" + long + "x\ny\n" + long, Options{}, [][]string{{long}, {long + "x"}, {"y"}, {long}}},
		{"a,b;c\n\nd\n", Options{ColumnSeparator: "[,;]"}, [][]string{{"a", "b", "c"}, {""}, {"d"}}},
		{"a  b \n", Options{ColumnSeparator: " "}, [][]string{{"a", "", "b", ""}}},
		{"a  b\n", Options{ColumnSeparator: " +"}, [][]string{{"a", "b"}}},
		{"a|b.c\n", Options{ColumnSeparator: "|"}, [][]string{{"a", "b.c"}}},
		{"a|b.c\n", Options{ColumnSeparator: "."}, [][]string{{"a|b", "c"}}},
		{"a\tb\n", Options{ColumnSeparator: `\t`}, [][]string{{"a", "b"}}},
		{"12345\n123456", Options{BatchBytes: 4, BatchInputs: 1}, [][]string{{"12345"}, {"123456"}}},
	} {
		for name, reader := range map[string]io.Reader{"whole": strings.NewReader(c.text), "bytes": iotest.OneByteReader(strings.NewReader(c.text))} {
			o := c.o
			o.Stdin = reader
			if got, err := readAll(t, nil, &o); err != nil || !cmp.Equal(got, c.want) {
				t.Errorf("%s, %.20q: %v, %s", name, c.text, err, cmp.Diff(c.want, got))
			}
		}
	}
}

func TestCSV(t *testing.T) {
	t.Parallel()
	at := files(t, map[string]string{"csv": "\ufeffname,full size\na,1\n\n\"b, \"\"c\"\"\nd\",\n", "tsv": "a\tb\n1,2\t3\n", "header": "a,b"})
	for _, c := range []struct {
		file    string
		comma   rune
		columns []string
		want    [][]string
	}{
		{"csv", ',', []string{"name", "full size"}, [][]string{{"a", "1"}, {"b, \"c\"\nd", ""}}},
		{"tsv", '\t', []string{"a", "b"}, [][]string{{"1,2", "3"}}},
		{"header", ',', []string{"a", "b"}, nil},
	} {
		sources := at(":::: @" + c.file)
		r, err := Open(sources, &Options{Comma: c.comma})
		if err != nil {
			t.Fatal(err)
		}
		if !cmp.Equal(r.Columns(), c.columns) || r.Format() != navvy.InputFields || r.Streaming() {
			t.Errorf("%s: %q, %d, %t", c.file, r.Columns(), r.Format(), r.Streaming())
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if got, err := readAll(t, sources, &Options{Comma: c.comma}); err != nil || !cmp.Equal(got, c.want) {
			t.Errorf("%s: %v, %s", c.file, err, cmp.Diff(c.want, got))
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	at := files(t, map[string]string{"one": "1\n", "two": "1\n2\n", "long": "1\n12345678901\n", "empty": "", "ragged": "a,b\n1,2\n3\n", "unnamed": "a,\n",
		"twice": "a,a\n", "quote": "a\n\"b\nc", "bare": "a,b\n1,2\"3\"\n", "huge": "a\n1\n\"" + strings.Repeat("x\n", 2*bufferSize)})
	csv := Options{Comma: ','}
	for _, c := range []struct {
		args string
		o    Options
		want string // in the error
		rows string // before it
	}{
		{":::+ a", Options{}, "none", ""},
		{"::: a b :::+ c", Options{}, "2 and 1 words", ""},
		{"::: a b ::::+ @one", Options{}, "one has fewer values than :::", "a 1"},
		{":::: - -", Options{}, "standard input is named more than once", ""},
		{":::: @one ::: a", csv, "goes with no other", ""},
		{"::: a", csv, "goes with no other", ""},
		{":::: @one", Options{Comma: ',', Null: true}, "own separators", ""},
		{"::: a", Options{ColumnSeparator: "[,"}, "cannot part", ""},
		{"::: a", Options{ColumnSeparator: "x*"}, "cannot part", ""},
		{":::: @one ::::+ @two", Options{}, "two has more values than", "1 1"},
		{":::: @two ::::+ @one", Options{}, "one has fewer values than", "1 1"},
		{"::: x :::: @two ::::+ @one", Options{}, "one has fewer values than", ""},
		{":::: @long", Options{MaxInput: 10}, "long: line 2 is longer than 10 bytes", "1"},
		{":::: @long ::: x", Options{MaxInput: 10}, "long: line 2 is longer than 10 bytes", "1 x"},
		{":::: @empty", csv, "empty: its first line", ""},
		{":::: @ragged", csv, "ragged: line 3 has a wrong number of fields: 1, but the first line has 2", "1 2"},
		{":::: @unnamed", csv, "column 2 has no name", ""},
		{":::: @twice", csv, `two columns are called "a"`, ""},
		{":::: @quote", csv, "quote: line 3", ""},
		{":::: @bare", csv, "bare: line 2, column 4", ""},
		{":::: @huge", Options{Comma: ',', MaxInput: 1000}, "huge, after line 2: the record is too long", "1"},
	} {
		rows, err := readAll(t, at(c.args), &c.o)
		if !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), c.want) || shape(rows) != c.rows {
			t.Errorf("%q %+v: %q, %v; want %q, %q", c.args, c.o, shape(rows), err, c.rows, c.want)
		}
	}
}

func TestFileErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Open([]Source{{File: dir + "/none"}}, nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir+"/none") {
		t.Errorf("a file that does not exist: %v", err)
	}
	if _, err := Open([]Source{{File: dir}}, nil); !errors.Is(err, syscall.EISDIR) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder: %v", err)
	}
	broken := io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(io.ErrNoProgress))
	for _, o := range []Options{{Stdin: broken}, {Stdin: broken, ColumnSeparator: ","}, {Stdin: iotest.ErrReader(io.ErrNoProgress), Comma: ','}} {
		if _, err := readAll(t, nil, &o); !errors.Is(err, io.ErrNoProgress) || !strings.Contains(err.Error(), "standard input") {
			t.Errorf("a read that fails: %v", err)
		}
	}
}

// What is there is given out before the source is waited for.
func TestSlowStream(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{"lines": {}, "columns": {ColumnSeparator: ";"}, "csv": {Comma: ','}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, out := io.Pipe()
			o.Stdin = in
			var r *Reader
			write := func(s string) {
				if _, err := io.WriteString(out, s); err != nil {
					t.Error(err)
				}
			}
			if o.Comma != 0 {
				go write("header\n")
			}
			r, err := Open(nil, &o)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Streaming() {
				t.Error("a pipe does not count as a stream")
			}
			for _, c := range []struct {
				text string
				want int
			}{{"a\n", 1}, {"b\nc\nd", 2}, {"\n", 1}} {
				write(c.text)
				inputs, err := r.Batch(t.Context())
				if err != nil || len(inputs) != c.want {
					t.Fatalf("after %q there are %q, %v", c.text, inputs, err)
				}
			}
			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := r.Batch(cancelled); !errors.Is(err, context.Canceled) {
				t.Errorf("with a cancelled context: %v", err)
			}
			if err := out.Close(); err != nil {
				t.Error(err)
			}
			for range 2 {
				if inputs, err := r.Batch(t.Context()); !errors.Is(err, io.EOF) || len(inputs) > 0 {
					t.Errorf("at the end: %q, %v", inputs, err)
				}
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Inputs can be made of values as they are read; what is wrong with one is told with its place.
func TestEncode(t *testing.T) {
	t.Parallel()
	at := files(t, map[string]string{"f": "a\nb\nbad\nc\n"})
	encode := func(dst, value []byte) ([]byte, error) {
		if string(value) == "bad" {
			return nil, fmt.Errorf("it is bad: %w", navvy.ErrInvalid)
		}
		return append(append(dst, "<"...), append(value, '>')...), nil
	}
	for line, want := range map[string]string{":::: @f": "line 3: it is bad", "::: x bad": ":::, value 2: it is bad", "::: a b": "EOF"} {
		r, err := Open(at(line), &Options{Encode: encode})
		if err != nil {
			t.Fatal(err)
		}
		inputs, err := r.Batch(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || want != "EOF" && !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
		if line == "::: a b" && string(bytes.Join(inputs, nil)) != "<a><b>" {
			t.Errorf("%s: %q", line, inputs)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	for line, o := range map[string]Options{"::: a ::: b": {}, "::: a": {ColumnSeparator: ","}} {
		o.Encode = encode
		if _, err := Open(at(line), &o); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestBatches(t *testing.T) {
	t.Parallel()
	at := files(t, map[string]string{"f": strings.Repeat("0123456789\n", 2500)})
	r, err := Open(at(":::: @f"), &Options{BatchBytes: 5000})
	if err != nil {
		t.Fatal(err)
	}
	if r.Streaming() || r.Format() != navvy.InputRaw || r.Fields() != 1 {
		t.Errorf("streaming %t, format %d, %d fields", r.Streaming(), r.Format(), r.Fields())
	}
	for i := range 5 {
		inputs, err := r.Batch(t.Context())
		if len(inputs) != 500 || (err != nil) != (i == 4) {
			t.Errorf("batch %d: %d inputs, %v", i, len(inputs), err)
		}
		for _, in := range inputs {
			if string(in) != "0123456789" || cap(in) != len(in) {
				t.Fatalf("input %q", in)
			}
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseEarly(t *testing.T) {
	t.Parallel()
	at := files(t, map[string]string{"f": strings.Repeat("x\n", 100_000)})
	for _, args := range []string{":::: @f", ":::: @f ::: a b"} {
		r, err := Open(at(args), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Batch(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		for err == nil {
			_, err = r.Batch(t.Context())
		}
		if !errors.Is(err, navvy.ErrClosed) && !errors.Is(err, fs.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// Blank lines are left out where that is asked for, but not words. A value that is
// refused is salvaged from a pipe, and the numbers of lines stay right.
func TestBlankAndWrong(t *testing.T) {
	t.Parallel()
	const text = "a\n\n \t\r\nbad\nb\n\n"
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	salvage := func(dst []byte, wrong error) []byte { return append(append(dst, '!'), wrong.Error()...) }
	for name, c := range map[string]struct {
		source  Source
		salvage func([]byte, error) []byte
		want    []string
		err     string
	}{
		"a pipe":                 {Source{File: "-"}, salvage, []string{"a", "!standard input: line 4: this is bad: " + navvy.ErrInvalid.Error(), "b"}, ""},
		"a pipe without salvage": {Source{File: "-"}, nil, []string{"a"}, "standard input: line 4: this is bad"},
		"a file":                 {Source{File: file}, salvage, []string{"a"}, file + ": line 4: this is bad"},
		"words":                  {Source{Words: []string{"a", "", "b"}}, salvage, []string{"a", "", "b"}, ""},
	} {
		o := &Options{Stdin: strings.NewReader(text), SkipBlank: true, Salvage: c.salvage, Encode: func(dst, value []byte) ([]byte, error) {
			if string(value) == "bad" {
				return nil, fmt.Errorf("this is bad: %w", navvy.ErrInvalid)
			}
			return append(dst, value...), nil
		}}
		inputs, err := readAll(t, []Source{c.source}, o)
		var got []string
		for _, fields := range inputs {
			got = append(got, fields...)
		}
		if diff := cmp.Diff(c.want, got); diff != "" || (err == nil) != (c.err == "") || err != nil && !strings.HasPrefix(err.Error(), c.err) {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}
