package placeholder

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"pgregory.net/rapid"
)

// otherShells may be /bin/sh on other machines; those that are here are tried too.
var otherShells = [][]string{{"bash", "--posix"}, {"busybox", "sh"}, {"ksh"}, {"mksh"}, {"zsh", "--emulate", "sh"}}

// run executes a command, /bin/sh replaced by shell, that can start no program,
// only what is built into the shell, and returns what it prints.
func run(ctx context.Context, shell, args []string) (string, error) {
	args = append(shell[1:len(shell):len(shell)], args...)
	cmd := exec.CommandContext(ctx, shell[0], args...)
	cmd.Env = []string{"PATH=/nonexistent", "HOME=/h o'me", "LC_ALL=C.UTF-8"}
	cmd.Dir = os.TempDir()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil && stderr.Len() > 0 {
		err = errors.New(stderr.String())
	}
	return string(out), err
}

// check renders the line for the values and expects, from /bin/sh and from all
// shells in others, what is wanted, each word ended by a zero byte; and the same
// from the preview.
func check(t rapid.TB, line string, o Options, v Values, want string, others ...[]string) {
	t.Helper()
	o.Shell = true
	template, err := Parse([]string{line}, o)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	args, err := template.Render(nil, v)
	if err != nil {
		t.Fatalf("%q of %q: %v", line, v.Fields, err)
	}
	for _, shell := range append(others, []string{args[0]}) {
		if got, err := run(context.Background(), shell, args[1:]); got != want || err != nil {
			t.Fatalf("%v: %q of %q\n got %q\nwant %q\n err %v\nargs %q", shell, line, v.Fields, got, want, err, args)
		}
		preview := template.Preview(v)
		if got, err := run(context.Background(), shell, []string{"-c", preview}); got != want || err != nil {
			t.Fatalf("%v: preview of %q of %q\n got %q\nwant %q\n err %v\nline %q", shell, line, v.Fields, got, want, err, preview)
		}
	}
}

// shellsHere are those of otherShells that are on this machine.
func shellsHere() [][]string {
	var here [][]string
	for _, shell := range otherShells {
		if path, err := exec.LookPath(shell[0]); err == nil {
			here = append(here, append([]string{path}, shell[1:]...))
		}
	}
	return here
}

// A value for each thing that a shell treats specially.
var nasty = []string{
	"", " ", "a b", "'", `"`, `\`, `\\`, "$HOME", "$(printf pwned)", "`printf pwned`", "; printf pwned", "a\nb", "\n", "a\n",
	"*", "?", "[a-z]", "~", "~root", "#", "# x", "!", "!!", "-n", "--", "a=b", "&", "|", ">", "<", "(", ")", "{}", "{1}", "${_navvy1}", "$1", "$@",
	"\xff\xfe", "\x81\x82\x88", "\x01\x7f", "ü☃", "'\"'\"'", "\\'", "a'b\"c$d`e\\f", "\r\n", "\t", "$'\\x27'", "%s", "\\n",
}

func TestShellLine(t *testing.T) {
	t.Parallel()
	lines := []struct{ line, want string }{ // X in want is the value
		{`printf '%s\0' {}`, "X\x00"},
		{`printf '%s\0'`, "X\x00"},
		{"printf '%s\\0' \n", "X\x00"},
		{`printf '%s\0' "{}"`, "X\x00"},
		{`printf '%s\0' '{}'`, "X\x00"},
		{`printf '%s\0' a{}b"c{}d"'e{}f'`, "aXbcXdeXf\x00"},
		{`printf '%s\0' 'it'\''s {}' \{} "\{}"`, "it's X\x00{}\x00\\{}\x00"},
		{`printf '%s\0' "say \"{}\" \\{}"`, "say \"X\" \\X\x00"},
		{`printf '%s\0' \${} "\${}" '$'{} "$"{}`, "$X\x00$X\x00$X\x00$X\x00"},
		{`printf '%s\0' "$(printf '%s.' {} "{}" '{}')"`, "X.X.X.\x00"},
		{`printf '%s\0' "$(printf '%s.' "$(printf '%s.' {})" "a{}b")"`, "X..aXb.\x00"},
		{`f() { printf '%s\0' {} "$1"; }; f y`, "X\x00y\x00"},
		{`set -- y; printf '%s\0' {} "$1" "$#"`, "X\x00y\x001\x00"},
		{`printf '%s\0' "$#" "$@" {}`, "0\x00X\x00"},
		{`printf '%s\0' "${NO:-it's}" {}`, "it's\x00X\x00"},
		{`printf '%s\0' ${NO:-'}'} "${HOME}" {}`, "}\x00/h o'me\x00X\x00"},
		{`printf '%s\0' "$((1+(2*3)))" $((1<<2)) {}`, "7\x004\x00X\x00"},
		{"printf '%s\\0' `printf \"it's\"` {}", "it's\x00X\x00"},
		{`x={} y="{}"; printf '%s\0' "$x" "$y"`, "X\x00X\x00"},
		{`case {} in "{}") printf '%s\0' {};; *) printf no;; esac`, "X\x00"},
		{`if [ "{}" = '{}' ]; then printf '%s\0' {}; fi # it's {`, "X\x00"},
		{"# it's\nprintf '%s\\0' {}", "X\x00"},
		{"printf '%s\\0' a#'{}'", "a#X\x00"},
		{`( ( printf '%s\0' {} ) )`, "X\x00"},
		{`{ printf '%s\0' {} ; }`, "X\x00"},
		{`while read -r l; do printf '%s\0' {}; break; done <<E` + "\nit's\nE\n", "X\x00"},
	}
	for _, l := range lines {
		t.Run(l.line, func(t *testing.T) {
			t.Parallel()
			shells := shellsHere()
			for _, value := range nasty {
				check(t, l.line, Options{}, Values{Fields: []string{value}}, strings.ReplaceAll(l.want, "X", value), shells...)
			}
		})
	}
}

func TestShellLineFields(t *testing.T) {
	t.Parallel()
	v := Values{Fields: []string{"a/b.c", "it's", ""}, Seq: 7, Slot: 2}
	columns := []string{"path", "two words", "e"}
	for _, c := range []struct{ line, want string }{
		{`printf '%s\0' {2} {-1} {1/.} {#}{%} {}`, "it's\x00\x00b\x0072\x00a/b.c it's \x00"},
		{`printf '%s\0'`, "a/b.c\x00it's\x00\x00"},
		{`printf '%s\0' {#}`, "7\x00"},
		{`printf '%s\0' "{two words}" {path//} '{path.}'"{path/}"`, "it's\x00a\x00a/bb.c\x00"},
		{`printf '%s\0' {1}{2}{3}{1.}{2.}{3.}{1/}{2/}{3/}{1//}{2//}{3//}`, "a/b.cit'sa/bit'sb.cit'sa..\x00"}, // more than nine
	} {
		check(t, c.line, Options{Columns: columns}, v, c.want, shellsHere()...)
	}
	check(t, `while read -r x; do printf '%s\0' {#} "$#"; break; done </dev/null; printf '%s\0' {#}`, Options{Stdin: true}, v, "7\x00")
}

func TestShellLineRefused(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"echo `cat {}`", `echo $(({} + 1))`, `(( {} ))`, `echo ${x:-{}}`, `echo "${x:-"{}"}"`, "cat <<E\n{}\nE", `cat <<< {}`, `echo $'{}'`, `echo $[{}]`,
		`echo ${}`, `echo "${.}"`, `echo ${/}`, `echo "$(case x in x) echo {};; esac)"`, `echo $((echo a) | cat) {}`,
		`echo "{}`, `echo '{}`, `echo $(echo {}`, `echo it's {}`, "echo `a {}", // not closed
		`echo hi;`, `echo hi |`, `echo &`, `a && `, `x=1`, `a; x=1 y=2`, `cat <`, `!`, `echo # x`, "echo \\\n", `echo 'x`, ` `, "cat <<E\nx\nE", // nothing may be appended
		`echo {3}`, `echo {-3}`,
	} {
		if template, err := Parse([]string{line}, Options{Shell: true, Fields: 2}); !errors.Is(err, navvy.ErrInvalid) {
			args, _ := template.Render(nil, Values{Fields: []string{"x"}})
			t.Errorf("%q is not refused but rendered %q, %v", line, args, err)
		}
	}
	// Without anything to put in, the line is the shell's own affair.
	for _, line := range []string{"cat <<E\nit's\nE", "echo `date` $((1<<2)) &", `sort |`} {
		template, err := Parse([]string{line}, Options{Shell: true, Stdin: true})
		if err != nil {
			t.Fatal(err)
		}
		if args, err := template.Render(nil, Values{}); err != nil || len(args) != 3 || args[2] != line || template.UsesInput() {
			t.Errorf("%q became %q, %v", line, args, err)
		}
	}
}

// genValue draws bytes that a process can be given, mostly such as mean
// something to a shell.
func genValue() *rapid.Generator[string] {
	special := rapid.SampledFrom([]byte("'\"\\$`(){}[]*?~#!&|;<> \n\t=-ab1\x81\x88\xff"))
	char := rapid.OneOf(special, special, rapid.ByteRange(1, 255))
	return rapid.Map(rapid.SliceOfN(char, 0, 12), func(b []byte) string { return string(b) })
}

// piece is a piece of a shell line, and what it must come to.
type piece struct{ line, want string }

func concat(pieces []piece) (p piece) {
	for _, q := range pieces {
		p.line, p.want = p.line+q.line, p.want+q.want
	}
	return p
}

// genWord draws a word of a shell line that refers to the value.
func genWord(value string, depth int) *rapid.Generator[piece] {
	holder := rapid.Just(piece{"{}", value})
	plain := rapid.SampledFrom([]piece{{"a", "a"}, {"-", "-"}, {"%", "%"}, {"{", "{"}, {"a}", "a}"}, {"=", "="}})
	within := func(quote string, pieces ...*rapid.Generator[piece]) *rapid.Generator[piece] {
		return rapid.Map(rapid.SliceOfN(rapid.OneOf(append(pieces, holder, plain)...), 0, 4), func(ps []piece) piece {
			p := concat(ps)
			return piece{quote + p.line + quote, p.want}
		})
	}
	inDouble := rapid.SampledFrom([]piece{{`\"`, `"`}, {`\\`, `\`}, {`\$`, "$"}, {"'", "'"}, {"#", "#"}, {" ", " "}, {"$ ", "$ "}, {"(", "("}, {`\a`, `\a`}, {"\\`", "`"}, {"${NO:-'}", "'"}})
	inSingle := rapid.SampledFrom([]piece{{`"`, `"`}, {`\`, `\`}, {"$(", "$("}, {"`", "`"}, {"${", "${"}, {"#", "#"}})
	bareOnly := rapid.SampledFrom([]piece{{`\'`, "'"}, {`\"`, `"`}, {`\ `, " "}, {`\\`, `\`}, {`\$`, "$"}, {`\{}`, "{}"}, {"$((1+1))", "2"}, {`\;`, ";"}, {"a#", "a#"}})
	all := []*rapid.Generator[piece]{holder, plain, bareOnly, within("'", inSingle)}
	if depth == 0 {
		all = append(all, within(`"`, inDouble))
	} else {
		nested := rapid.Map(genWord(value, depth-1), func(p piece) piece {
			return piece{"$(printf '%s.' x" + p.line + ")", "x" + p.want + "."}
		})
		all = append(all, within(`"`, inDouble, nested))
	}
	return rapid.Map(rapid.SliceOfN(rapid.OneOf(all...), 1, 5), concat)
}

func TestShellWordsArriveWhole(t *testing.T) {
	t.Parallel()
	shells := shellsHere()
	rapid.Check(t, func(t *rapid.T) {
		value := genValue().Draw(t, "value")
		words := rapid.SliceOfN(genWord(value, 2), 1, 3).Draw(t, "words")
		line, want := `printf '%s\0' {}`, value+"\x00"
		for _, w := range words {
			line, want = line+" x"+w.line, want+"x"+w.want+"\x00"
		}
		check(t, line, Options{}, Values{Fields: []string{value}}, want, shells...)
	})
}

// FuzzShellValue looks for a value that does not arrive whole in some context.
// The lines are fixed: a fuzzer must not write shell lines that are then run.
func FuzzShellValue(f *testing.F) {
	for _, value := range nasty {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.Contains(value, "\x00") || len(value) > 1<<16 {
			t.Skip("no process can be given this")
		}
		check(t, `printf '%s\0' {} "{}" '{}' a"$(printf %s. {} "$(printf %s. "{}")")"`, Options{},
			Values{Fields: []string{value}}, strings.ReplaceAll("X\x00X\x00X\x00aX.X..\x00", "X", value))
	})
}

// FuzzShellLine reads lines, runs none, and looks at what the scripts are made of.
func FuzzShellLine(f *testing.F) {
	f.Add("a {} \"{.}\" '{/}' $(b {//}) ${x} $((1)) `c` # {}", true)
	f.Add("{1} {-1} {#} {%} {name} {name/.} \\{} ${} <<E", false)
	f.Fuzz(func(t *testing.T, line string, stdin bool) {
		const secret = "\x01secret\x01"
		template, err := Parse([]string{line}, Options{Shell: true, Stdin: stdin, Columns: []string{"name"}})
		if err != nil {
			if !errors.Is(err, navvy.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		args, err := template.Render(nil, Values{Fields: []string{secret}, Seq: 1, Slot: 1})
		if err != nil {
			t.Fatal(err)
		}
		if args[0] != "/bin/sh" || args[1] != "-c" || strings.Contains(args[2], secret) && !strings.Contains(line, secret) {
			t.Fatalf("the value is in the script: %q", args)
		}
		template.Preview(Values{})
	})
}
