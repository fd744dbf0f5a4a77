package unit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
)

// Systemd is the manager whose units the user's systemd keeps up. What it is told lies where
// that looks for units of the user; environments, with what is secret in them, and notes
// lie in a directory of the manager's own.
type Systemd struct {
	dir    string // of the manager
	units  string // where systemd looks
	prefix string
	ctl    func(ctx context.Context, args ...string) (string, error)
}

var _ Manager = (*Systemd)(nil)

// SystemdOptions say where the user's systemd is.
type SystemdOptions struct {
	// RuntimeDir is $XDG_RUNTIME_DIR, and ConfigDir $XDG_CONFIG_HOME, else ~/.config.
	RuntimeDir, ConfigDir string
	// Env is the environment of systemctl.
	Env []string
}

// HasSystemd tells whether the user has a running systemd: the machine was started by it, and
// the user's own one listens.
func HasSystemd(o *SystemdOptions) bool {
	if info, err := os.Stat("/run/systemd/system"); err != nil || !info.IsDir() { // see sd_booted(3)
		return false
	}
	if o.RuntimeDir == "" || o.ConfigDir == "" {
		return false
	}
	conn, err := net.DialTimeout("unix", filepath.Join(o.RuntimeDir, "systemd", "private"), time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	_, err = exec.LookPath("systemctl")
	return err == nil
}

// OpenSystemd opens the units of a directory. Units of systemd are called prefix-NAME, where
// prefix is a name of a unit, too.
func OpenSystemd(dir, prefix string, o *SystemdOptions) (*Systemd, error) {
	if err := CheckName(prefix); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("units: %w", err)
	}
	return &Systemd{dir: dir, units: filepath.Join(o.ConfigDir, "systemd", "user"), prefix: prefix, ctl: func(ctx context.Context, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "systemctl", append([]string{"--user", "--no-pager"}, args...)...)
		cmd.Env = o.Env
		var out, bad bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &bad
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("systemctl --user %s: %w: %s", args[0], err, strings.TrimSpace(bad.String()))
		}
		return out.String(), nil
	}}, nil
}

// Close implements Manager.
func (m *Systemd) Close() error { return nil }

func (m *Systemd) service(name string) string { return m.prefix + "-" + name + ".service" }
func (m *Systemd) unit(name string) string    { return filepath.Join(m.units, m.service(name)) }
func (m *Systemd) env(name string) string     { return filepath.Join(m.dir, name+".env") }

// marked begins a unit of systemd that is a manager's, before its directory.
const marked = "# A unit of navvy's; its record is in "

func (m *Systemd) mark() string { return marked + m.dir + "\n" }

// List implements Manager.
func (m *Systemd) List(ctx context.Context) ([]State, error) {
	records, err := readUnits(m.dir)
	if err != nil || len(records) == 0 {
		return nil, err
	}
	args := []string{"show", "--property=Id,ActiveState,SubState,MainPID,NRestarts,Result,ExecMainStatus"}
	for i := range records {
		args = append(args, m.service(records[i].Spec.Name))
	}
	out, err := m.ctl(ctx, args...)
	if err != nil {
		return nil, fmt.Errorf("units: %w: %w", err, navvy.ErrUnavailable)
	}
	shown := map[string]map[string]string{}
	for block := range strings.SplitSeq(out, "\n\n") {
		properties := map[string]string{}
		for line := range strings.Lines(block) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			properties[name] = value
		}
		shown[properties["Id"]] = properties
	}
	list := make([]State, 0, len(records))
	for i := range records {
		list = append(list, m.state(&records[i], shown[m.service(records[i].Spec.Name)]))
	}
	return list, nil
}

// state is what systemd tells of a unit.
func (m *Systemd) state(r *record, shown map[string]string) State {
	s := r.Spec.down("journalctl --user -u " + m.service(r.Spec.Name))
	if r.damaged != nil {
		return State{Name: r.Spec.Name, Phase: Down, Exit: r.damaged.Error()}
	}
	if text, err := os.ReadFile(m.unit(r.Spec.Name)); err != nil || string(text) != m.text(&r.Spec) {
		s.Digest, s.Exit = "", "what systemd is told of it is not what navvy has written"
	}
	if r.Pending {
		s.Digest, s.Exit = "", "a change of it was interrupted"
	}
	s.Starts, _ = strconv.Atoi(shown["NRestarts"])
	s.Pid, _ = strconv.Atoi(shown["MainPID"])
	if status := shown["ExecMainStatus"]; status != "" && status != "0" {
		s.Exit = strings.TrimSpace(shown["Result"] + ", status " + status)
	}
	switch shown["ActiveState"] {
	case "active", "reloading":
		s.Phase = Up
	case "activating":
		s.Phase = Up
		if strings.HasPrefix(shown["SubState"], "auto-restart") {
			s.Phase = Waiting
		}
	case "deactivating":
		s.Phase = Stopping
	case "failed":
		s.Phase = GaveUp
	}
	return s
}

// Put implements Manager.
func (m *Systemd) Put(ctx context.Context, spec *Spec) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	if err := m.ours(spec.Name); err != nil {
		return err
	}
	if err := errors.Join(openDir(m.dir), os.MkdirAll(m.units, 0o755)); err != nil { //nolint:gosec // as systemd makes it; others may read it
		return err
	}
	text, env := m.text(spec), environmentFile(spec.Env)
	was, _ := os.ReadFile(m.unit(spec.Name))
	had, _ := os.ReadFile(m.env(spec.Name))
	old, err := readUnit(m.dir, spec.Name)
	same := string(was) == text && string(had) == env && err == nil && !old.Pending
	if err := writeUnit(m.dir, &record{Spec: *spec, Pending: !same}); err != nil {
		return err
	}
	verb := "start"
	if !same {
		verb = "restart"
		if err := WriteFile(m.env(spec.Name), []byte(env)); err != nil {
			return fmt.Errorf("unit %s: %w", spec.Name, err)
		}
		if err := WriteFile(m.unit(spec.Name), []byte(text)); err != nil {
			return fmt.Errorf("unit %s: %w", spec.Name, err)
		}
		if err := m.run(ctx, spec.Name, "daemon-reload"); err != nil {
			return err
		}
	}
	service := m.service(spec.Name)
	_, _ = m.ctl(ctx, "reset-failed", service) // an error says that it has not failed
	if err := m.run(ctx, spec.Name, "enable", service); err != nil {
		return err
	}
	if err := m.run(ctx, spec.Name, verb, service); err != nil || same {
		return err
	}
	return writeUnit(m.dir, &record{Spec: *spec})
}

// Remove implements Manager.
func (m *Systemd) Remove(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	_, known := os.Stat(unitFile(m.dir, name))
	if err := m.ours(name); err != nil {
		return err
	}
	end := m.end
	if _, err := os.Stat(m.unit(name)); errors.Is(err, fs.ErrNotExist) {
		if errors.Is(known, fs.ErrNotExist) {
			return nil
		}
		end = m.endLost
	}
	if err := end(ctx, name); err != nil {
		return err
	}
	if err := m.run(ctx, name, "daemon-reload"); err != nil {
		return err
	}
	if err := os.Remove(m.env(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unit %s: %w", name, err)
	}
	return forgetUnit(m.dir, name)
}

// end ends a unit, and takes away what systemd is told of it.
func (m *Systemd) end(ctx context.Context, name string) error {
	if err := m.run(ctx, name, "disable", "--now", m.service(name)); err != nil {
		return err
	}
	if err := os.Remove(m.unit(name)); err != nil {
		return fmt.Errorf("unit %s: %w", name, err)
	}
	return nil
}

// endLost ends a unit whose file somebody has removed: systemd cannot disable that, and may
// still keep it up.
func (m *Systemd) endLost(ctx context.Context, name string) error {
	service := m.service(name)
	shown, err := m.ctl(ctx, "show", "--property=ActiveState", service)
	if err != nil {
		return fmt.Errorf("unit %s: %w", name, err)
	}
	switch strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(shown), "ActiveState=")) {
	case "inactive", "failed": // stop refuses one that systemd does not know any more
	default:
		if err := m.run(ctx, name, "stop", service); err != nil {
			return err
		}
	}
	link := filepath.Join(m.units, "default.target.wants", service)
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unit %s: %w", name, err)
	}
	return nil
}

// ours refuses a unit of systemd of that name that this manager has not made.
func (m *Systemd) ours(name string) error {
	text, err := os.ReadFile(m.unit(name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && strings.HasPrefix(string(text), m.mark()) {
		return nil
	} else if err != nil {
		return fmt.Errorf("unit %s: %w", name, err)
	}
	return fmt.Errorf("unit %s: %s is there, and is not navvy's: %w", name, m.unit(name), navvy.ErrExists)
}

func (m *Systemd) run(ctx context.Context, name string, args ...string) error {
	if _, err := m.ctl(ctx, args...); err != nil {
		return fmt.Errorf("unit %s: %w", name, err)
	}
	return nil
}

// text is a unit as systemd is told of it; see systemd.service(5). Pauses grow with systemd
// 254; an older one says in its journal that it does not know those two settings.
func (m *Systemd) text(s *Spec) string {
	args := make([]string, len(s.Args))
	for i, arg := range s.Args {
		args[i] = quoteArg(arg)
	}
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
StartLimitBurst=20

[Service]
Type=exec
ExecStart=%s
EnvironmentFile=%s
WorkingDirectory=%s
UMask=0077
Delegate=yes
Restart=always
RestartSec=200ms
RestartSteps=8
RestartMaxDelaySec=30s
KillMode=mixed
KillSignal=%s
TimeoutStopSec=%dms

[Install]
WantedBy=default.target
`, escapePercent(m.prefix+" "+s.Name), strings.Join(args, " "), escapePercent(m.env(s.Name)), escapePercent(dir), stop, s.grace().Milliseconds())
}

// escapePercent keeps systemd from expanding specifiers.
func escapePercent(text string) string { return strings.ReplaceAll(text, "%", "%%") }

// quoteArg writes an argument as ExecStart takes it: in quotes, with neither a specifier nor
// a variable in it.
func quoteArg(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '%' || c == '$':
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
