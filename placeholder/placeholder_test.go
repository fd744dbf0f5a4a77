package placeholder

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/navvy-run/navvy"
)

// The table is what GNU parallel 20221122 prints for {.}, {/}, {//} and {/.}.
func TestParts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ value, noExtension, base, dir, baseNoExtension string }{
		{"a/b.tar.gz", "a/b.tar", "b.tar.gz", "a", "b.tar"},
		{".bashrc", "", ".bashrc", ".", ""},
		{"x.", "x", "x.", ".", "x"},
		{"/x/y/", "/x/y/", "", "/x", ""},
		{"b", "b", "b", ".", "b"},
		{"/x", "/x", "x", "/", "x"},
		{"a//b.c", "a//b", "b.c", "a", "b"},
		{"a/", "a/", "", ".", ""},
		{"a/.c", "a/", ".c", "a", ""},
		{"a.b/c", "a.b/c", "c", "a.b", "c"},
		{"/", "/", "", "/", ""},
		{"//", "//", "", "/", ""},
		{"", "", "", ".", ""},
		{"a/b/", "a/b/", "", "a", ""},
		{"/a.", "/a", "a.", "/", "a"},
		{"./x", "./x", "x", ".", "x"},
		{"../x", "../x", "x", "..", "x"},
		{"a.b.c/", "a.b.c/", "", ".", ""},
		{".", "", ".", ".", ""},
		{"..", ".", "..", ".", "."},
		{"a/..", "a/.", "..", "a", "."},
	} {
		got := render(t, []string{"{}", "{.}", "{/}", "{//}", "{/.}"}, Options{}, Values{Fields: []string{c.value}})
		want := []string{c.value, c.noExtension, c.base, c.dir, c.baseNoExtension}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", c.value, diff)
		}
	}
}

func render(t *testing.T, args []string, o Options, v Values) []string {
	t.Helper()
	template, err := Parse(args, o)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	got, err := template.Render(nil, v)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return got
}

func TestArguments(t *testing.T) {
	t.Parallel()
	two := []string{"a/b.c", "it's $HOME\n"}
	csv := Options{Columns: []string{"file", "full name", "x.", "1", "file/"}}
	five := []string{"a/b.c", "F N", "dot", "one", "slash"}
	for _, c := range []struct {
		args   []string
		o      Options
		fields []string
		want   []string
	}{
		{[]string{"wc", "-l"}, Options{}, []string{"f g"}, []string{"wc", "-l", "f g"}},
		{[]string{"wc", "-l"}, Options{}, two, []string{"wc", "-l", "a/b.c", "it's $HOME\n"}},
		{[]string{"wc", "-l"}, Options{Stdin: true}, two, []string{"wc", "-l"}},
		{[]string{"wc"}, Options{}, nil, []string{"wc"}},
		{[]string{"x", "{#}-{%}"}, Options{}, two, []string{"x", "42-3"}},
		{[]string{"x", "{#}"}, Options{Stdin: true}, two, []string{"x", "42"}},
		{[]string{"x", "{.}"}, Options{Stdin: true}, two[:1], []string{"x", "a/b"}},
		{[]string{"{}", "--out={/.}.txt"}, Options{}, two[:1], []string{"a/b.c", "--out=b.txt"}},
		{[]string{"x", "{}", "{/}"}, Options{}, two, []string{"x", "a/b.c it's $HOME\n", "b.c it's $HOME\n"}},
		{[]string{"x", "{2}{1}", "{-1}", "{-2/.}", "{01//}"}, Options{Fields: 2}, two, []string{"x", "it's $HOME\na/b.c", "it's $HOME\n", "b", "a"}},
		{[]string{"x", "a{3}b", "{-3}", "{}"}, Options{}, two[:1], []string{"x", "ab", "", "a/b.c"}},
		{[]string{"x", "{0}", "{+1}", "{ 1}", "{1.gz}", "{a}", "{", "}", "{{", "{1,3}", "{print $1}", "{/x}", "{-}", "{99999999999}", "{1"}, Options{Stdin: true}, two,
			[]string{"x", "{0}", "{+1}", "{ 1}", "{1.gz}", "{a}", "{", "}", "{{", "{1,3}", "{print $1}", "{/x}", "{-}", "{99999999999}", "{1"}},
		{[]string{"x", "{{}}", "{a{}b}", "{}}"}, Options{}, []string{"v"}, []string{"x", "{v}", "{avb}", "v}"}},
		{[]string{"x", "$", "`", "\\{}"}, Options{}, []string{"'"}, []string{"x", "$", "`", "\\'"}}, // no shell, no backslash
		{[]string{"x", "{file}", "{file.}", "{file/}", "{file//}", "{file/.}"}, csv, five, []string{"x", "a/b.c", "a/b", "slash", "a", "b"}},
		{[]string{"x", "{full name}", "{x.}", "{1}", "{-1}", "{4}", "{ x. }", "{ print }"}, csv, five, []string{"x", "F N", "dot", "a/b.c", "slash", "one", "{ x. }", "{ print }"}},
		{[]string{"x"}, csv, five, append([]string{"x"}, five...)},
		{[]string{"x", "ü{}☃"}, Options{}, []string{"\xff"}, []string{"x", "ü\xff☃"}},
		{[]string{"x", strings.Repeat("y", 300) + "{}"}, Options{}, []string{"z"}, []string{"x", strings.Repeat("y", 300) + "z"}},
	} {
		got := render(t, c.args, c.o, Values{Fields: c.fields, Seq: 42, Slot: 3})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q: %s", c.args, diff)
		}
	}
}

func TestRenderAppends(t *testing.T) {
	t.Parallel()
	template, err := Parse([]string{"x"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := template.Render([]string{"setpriv"}, Values{Fields: []string{"y"}})
	if want := []string{"setpriv", "x", "y"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	columns := []string{"name", "size"}
	for _, c := range []struct {
		args []string
		o    Options
		want string
	}{
		{nil, Options{}, "empty"},
		{[]string{""}, Options{}, "empty"},
		{[]string{"a", "b"}, Options{Shell: true}, "one line"},
		{[]string{"x", "a{2}"}, Options{Fields: 1}, "{2}: the inputs have no such field, only 1"},
		{[]string{"x", "{-3/.}"}, Options{Columns: columns}, "{-3/.}: the inputs have no such field, only 2"},
		{[]string{"x", "{nme}"}, Options{Columns: columns}, "{nme}: there is no such column, only name, size"},
		{[]string{"x", "{größe//}"}, Options{Columns: columns}, "{größe//}"},
	} {
		if _, err := Parse(c.args, c.o); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v does not say %q", c.args, err, c.want)
		}
	}
}

func TestZeroByte(t *testing.T) {
	t.Parallel()
	v := Values{Fields: []string{"a", "b\x00"}}
	for _, o := range []Options{{}, {Shell: true}} {
		template, err := Parse([]string{"cat"}, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := template.Render(nil, v); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "field 2") {
			t.Errorf("%+v: a zero byte gives %v", o, err)
		}
	}
	// What goes to standard input only may hold any byte.
	if got := render(t, []string{"cat"}, Options{Stdin: true}, v); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

func TestInScript(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		want bool
	}{
		{"sh -c {}", true},
		{"/bin/bash -c x{.}y", true},
		{"bash -lc {1}", true},
		{"bash -euo pipefail -c {}", true},
		{"bash --norc +x -c {}", true},
		{"env A=b timeout 5 dash -c {}", true},
		{"sh -c x {}", false},
		{"sh -c x{#}", false},
		{"sh script.sh -c {}", false},
		{"sh -e {}", false},
		{"echo -c {}", false},
		{"sh", false},
		{"sh -c", false},
		{"sh -o", false},
	} {
		template, err := Parse(strings.Fields(c.args), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := template.InScript(); got != c.want {
			t.Errorf("%s: %t", c.args, got)
		}
	}
	for line, want := range map[string]bool{
		`sh -c 'x {}'`:                         true,
		`x | /bin/bash -euo pipefail -c "a{}"`: true,
		`sh -c {}`:                             true,
		`sh -c x {}`:                           false,
		`sh -c 'x "$1"' sh {}`:                 false,
		`sh x.sh; gcc -c {}`:                   false,
		`ssh -c aes {}`:                        false,
	} {
		if template, err := Parse([]string{line}, Options{Shell: true}); err != nil || template.InScript() != want {
			t.Errorf("%s: not %t, %v", line, want, err)
		}
	}
}

func TestPreview(t *testing.T) {
	t.Parallel()
	v := Values{Fields: []string{"in/a b.fq"}, Seq: 1, Slot: 1}
	for _, c := range []struct {
		args []string
		o    Options
		want string
	}{
		{[]string{"wc", "-l"}, Options{}, "wc -l 'in/a b.fq'"},
		{[]string{"x y", "--out={//}.txt", "it's", ""}, Options{Stdin: true}, `'x y' --out=in.txt 'it'\''s' ''`},
		{[]string{`bwa mem ref.fa {} | sort -o "{.}.bam" '{//}'`}, Options{Shell: true}, `bwa mem ref.fa 'in/a b.fq' | sort -o "in/a b.bam" 'in'`},
		{[]string{"wc -l "}, Options{Shell: true}, "wc -l 'in/a b.fq'"},
	} {
		template, err := Parse(c.args, c.o)
		if err != nil {
			t.Fatal(err)
		}
		if got := template.Preview(v); got != c.want {
			t.Errorf("%q: got %s, want %s", c.args, got, c.want)
		}
	}
}

func FuzzArguments(f *testing.F) {
	f.Add("{} {.} {1/.} {-1} {#} {%} {name} {{}}", "value")
	f.Fuzz(func(t *testing.T, arg, value string) {
		template, err := Parse([]string{"x", arg}, Options{})
		if err != nil {
			t.Fatalf("without columns and a number of fields nothing is wrong: %v", err)
		}
		got, err := template.Render(nil, Values{Fields: []string{value}, Seq: 1, Slot: 1})
		if err != nil && !strings.Contains(value, "\x00") {
			t.Fatal(err)
		}
		if err == nil && !strings.ContainsAny(arg, "{}") && (got[1] != arg || got[2] != value) {
			t.Fatalf("got %q", got)
		}
		if _, err := Parse([]string{"x", arg}, Options{Columns: []string{"name", value}, Fields: 1}); err != nil && !errors.Is(err, navvy.ErrInvalid) {
			t.Fatal(err)
		}
	})
}

func ExampleTemplate_Render() {
	template, err := Parse([]string{"convert", "{}", "-resize", "50%", "{//}/small/{/.}.png"}, Options{Fields: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	args, _ := template.Render(nil, Values{Fields: []string{"photos/dog.jpg"}, Seq: 1, Slot: 1})
	fmt.Println(strings.Join(args, " "))
	// Output: convert photos/dog.jpg -resize 50% photos/small/dog.png
}

func BenchmarkRender(b *testing.B) {
	for name, args := range map[string][]string{
		"appended": {"wc", "-l"},
		"alone":    {"wc", "-l", "{}"},
		"mixed":    {"convert", "{}", "--out={//}/{/.}.png", "{#}"},
	} {
		b.Run(name, func(b *testing.B) { benchmark(b, args, Options{}) })
	}
	b.Run("shell", func(b *testing.B) {
		benchmark(b, []string{`bwa mem ref.fa {} | samtools sort -o "{.}.bam"`}, Options{Shell: true})
	})
}

func benchmark(b *testing.B, args []string, o Options) {
	template, err := Parse(args, o)
	if err != nil {
		b.Fatal(err)
	}
	var dst []string
	fields := []string{"data/sample-0001.fq"}
	b.ReportAllocs()
	for b.Loop() {
		if dst, err = template.Render(dst[:0], Values{Fields: fields, Seq: 1, Slot: 1}); err != nil {
			b.Fatal(err)
		}
	}
}
