package unit

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/navvy-run/navvy"
)

var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// SystemdTakes refuses what systemd would not run, or would run without some of it, of a unit's
// arguments, directory and environment. Nothing keeps it from passing on what its own environment
// has besides. The error wraps navvy.ErrInvalid.
func SystemdTakes(s *Spec) error { return takes(s, s.Dir) }

// takes refuses the same, and paths.
func takes(s *Spec, paths ...string) error {
	var err error
	if strings.ContainsAny(s.Args[0], `"'\`) || strings.ContainsFunc(s.Args[0], control) {
		err = fmt.Errorf("its program is %q, and in its path are no quotes, backslashes and control characters", s.Args[0])
	}
	for _, path := range paths {
		if strings.TrimSpace(path) != path || strings.HasSuffix(path, `\`) || strings.ContainsFunc(path, control) || !legible(path) {
			err = fmt.Errorf("the path %q has no space and no backslash at its end, no control character, and has to be UTF-8", path)
		}
	}
	for _, arg := range s.Args {
		if !legible(arg) {
			err = fmt.Errorf("its argument %.100q has to be UTF-8", arg)
		}
	}
	if err2 := takesEnv(s.Env); err2 != nil {
		err = err2
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("where systemd keeps it up %w: %w", err, navvy.ErrInvalid)
}

// takesEnv refuses what systemd would leave out of an environment.
func takesEnv(env map[string]string) (err error) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !variableForm.MatchString(name) {
			err = fmt.Errorf("the name of a variable, %q, is of letters, digits and '_'", name)
		}
		if strings.ContainsFunc(env[name], func(c rune) bool { return control(c) && c != '\n' && c != '\t' }) {
			err = fmt.Errorf("the variable %s holds no control characters but tabs and ends of lines", name)
		}
		if !legible(env[name]) {
			err = fmt.Errorf("the variable %s has to be UTF-8", name)
		}
	}
	return err
}

func control(c rune) bool { return c < ' ' || c == 0x7f }

// legible tells whether systemd reads a text: UTF-8, without code points that are no characters.
func legible(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(c rune) bool { return c >= 0xfdd0 && c <= 0xfdef || c&0xfffe == 0xfffe })
}

// pauses are the settings of pauses that grow, for systemd 254 and later: from 0.2 s to 30 s,
// and 20 starts in a row. An older one would not know them and always wait 0.2 s, and so give a
// unit up within seconds: it waits 5 s, as many times as take about as long.
func pauses(grow bool) (starts int, settings string) {
	if grow {
		return 20, "RestartSec=200ms\nRestartSteps=8\nRestartMaxDelaySec=30s"
	}
	return 60, "RestartSec=5s"
}

// text is a unit as systemd is told of it; see systemd.service(5). Not every systemd knows
// pauses that grow.
func (m *Systemd) text(s *Spec, grow bool) string {
	args := make([]string, len(s.Args))
	for i, arg := range s.Args {
		args[i] = quoteArg(arg, i > 0)
	}
	starts, settings := pauses(grow)
	dir := s.Dir
	if dir == "" {
		dir = "/"
	}
	stop := s.Stop
	if stop == "" {
		stop = "SIGTERM"
	}
	return m.mark() + fmt.Sprintf(`[Unit]
Description=%s
StartLimitIntervalSec=8min
StartLimitBurst=%d

[Service]
Type=exec
ExecStart=%s
EnvironmentFile=%s
WorkingDirectory=%s
UMask=0077
Delegate=yes
Restart=always
%s
KillMode=mixed
KillSignal=%s
TimeoutStopSec=%dms

[Install]
WantedBy=default.target
`, escapePercent(m.prefix+" "+s.Name), starts, strings.Join(args, " "), escapePercent(escapeGlob(m.env(s.Name))), escapePercent(dir), settings, stop, s.grace().Milliseconds())
}

// escapePercent keeps systemd from expanding specifiers.
func escapePercent(text string) string { return strings.ReplaceAll(text, "%", "%%") }

// quoteArg writes an argument as ExecStart takes it: in quotes, with neither a specifier nor
// a variable in it. In the program itself, the first, systemd looks for no variables.
func quoteArg(text string, variables bool) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '%' || c == '$' && variables:
			b.WriteByte(c)
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// environmentFile writes an environment as EnvironmentFile takes it, each value in double
// quotes, in which a backslash goes before what else would mean something.
func environmentFile(env map[string]string) string {
	var b strings.Builder
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&b, "%s=\"%s\"\n", name, escape.Replace(env[name]))
	}
	return b.String()
}

// escapeGlob keeps systemd from looking for all files of a pattern.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `{`, `\{`, `}`, `\}`).Replace(path)
}
