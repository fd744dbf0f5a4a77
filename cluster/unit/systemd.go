package unit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
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

	mu      sync.Mutex
	version int // of systemd; 0 if nobody has asked for it
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

// edits is where `systemctl --user edit` puts what a unit is to be besides.
func (m *Systemd) edits(name string) string { return m.unit(name) + ".d" }

// wanted is the link that has a unit started with the user's session: it is enabled.
func (m *Systemd) wanted(name string) string {
	return filepath.Join(m.units, "default.target.wants", m.service(name))
}

// marked begins a unit of systemd that is a manager's, before its directory.
const marked = "# A unit of navvy's; its record is in "

func (m *Systemd) mark() string { return marked + m.dir + "\n" }

// List implements Manager.
func (m *Systemd) List(ctx context.Context) ([]State, error) {
	records, err := readUnits(m.dir)
	if err != nil || len(records) == 0 {
		return nil, err
	}
	names := make([]string, len(records))
	for i := range records {
		names[i] = records[i].Spec.Name
	}
	shown, err := m.show(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("units: %w: %w", err, navvy.ErrUnavailable)
	}
	list := make([]State, 0, len(records))
	for i := range records {
		list = append(list, m.state(&records[i], shown[m.service(records[i].Spec.Name)]))
	}
	return list, nil
}

// show is what systemd tells of units, by what it calls them.
func (m *Systemd) show(ctx context.Context, names ...string) (map[string]map[string]string, error) {
	args := []string{"show", "--property=Id,ActiveState,SubState,MainPID,NRestarts,Result,ExecMainPID,ExecMainStatus,InvocationID,NeedDaemonReload,DropInPaths"}
	for _, name := range names {
		args = append(args, m.service(name))
	}
	out, err := m.ctl(ctx, args...)
	if err != nil {
		return nil, err
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
	return shown, nil
}

// Drifts that alone take no new start.
const (
	disabled = "somebody has disabled it"
	unread   = "systemd has not read what it was told of it last"
)

// drifted tells how somebody has changed what systemd is told of a unit; empty if nobody has.
func (m *Systemd) drifted(s *Spec, shown map[string]string) string {
	text, err := os.ReadFile(m.unit(s.Name))
	if err != nil || string(text) != m.text(s, true) && string(text) != m.text(s, false) {
		return "what systemd is told of it is not what navvy has written"
	}
	if env, err := os.ReadFile(m.env(s.Name)); err != nil || string(env) != environmentFile(s.Env) {
		return "its environment is not what navvy has written"
	}
	if _, err := os.Lstat(m.edits(s.Name)); err == nil {
		return m.edits(s.Name) + " changes it"
	}
	if shown["NeedDaemonReload"] == "yes" {
		return unread
	}
	if _, err := os.Lstat(m.wanted(s.Name)); err != nil {
		return disabled
	}
	return ""
}

// state is what systemd tells of a unit.
func (m *Systemd) state(r *record, shown map[string]string) State {
	s := r.Spec.down("journalctl --user-unit " + m.service(r.Spec.Name))
	if r.damaged != nil {
		return State{Name: r.Spec.Name, Phase: Down, Exit: r.damaged.Error()}
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
	default:
		s.Exit = "somebody has stopped it"
	}
	if why := m.drifted(&r.Spec, shown); r.Pending {
		s.Digest, s.Exit = "", "a change of it was interrupted"
	} else if why != "" {
		s.Digest, s.Exit = "", why
	}
	return s
}

// Put implements Manager.
func (m *Systemd) Put(ctx context.Context, spec *Spec) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	if err := takes(spec, spec.Dir, m.env(spec.Name)); err != nil {
		return fmt.Errorf("unit %s: %w", spec.Name, err)
	}
	if err := m.ours(spec.Name); err != nil {
		return err
	}
	if err := errors.Join(openDir(m.dir), os.MkdirAll(m.units, 0o755)); err != nil { //nolint:gosec // as systemd makes it; others may read it
		return err
	}
	same, err := m.same(ctx, spec)
	if err != nil {
		return fmt.Errorf("unit %s: %w", spec.Name, err)
	}
	if err := writeUnit(m.dir, &record{Spec: *spec, Pending: !same}); err != nil {
		return err
	}
	verb := "start"
	if !same {
		verb = "restart"
		if err := m.write(ctx, spec); err != nil {
			return fmt.Errorf("unit %s: %w", spec.Name, err)
		}
	}
	service := m.service(spec.Name)
	_, _ = m.ctl(ctx, "reset-failed", service) // an error says that it has not failed
	if err := m.run(ctx, spec.Name, "enable", service); err != nil {
		return err
	}
	if err := m.begin(ctx, verb, spec.Name); err != nil || same {
		return err
	}
	return writeUnit(m.dir, &record{Spec: *spec})
}

// begin starts a unit. Of a program that ends at once systemd may say that it was not started.
func (m *Systemd) begin(ctx context.Context, verb, name string) error {
	before, err := m.show(ctx, name)
	if err != nil {
		return fmt.Errorf("unit %s: %w", name, err)
	}
	err = m.run(ctx, name, verb, m.service(name))
	if err == nil {
		return nil
	}
	shown, err2 := m.show(ctx, name)
	of := shown[m.service(name)]
	if err2 != nil || of["InvocationID"] == before[m.service(name)]["InvocationID"] {
		return err
	}
	status, _ := strconv.Atoi(of["ExecMainStatus"])
	ended := slices.Contains([]string{"exit-code", "signal", "core-dump"}, of["Result"])
	if ended && of["ExecMainPID"] != "0" && (status < 200 || status > 243) { // these are systemd's own, see systemd.exec(5)
		return nil
	}
	return err
}

// same tells whether systemd has been told all of a spec, and nothing else. Whether it is
// enabled matters not: that takes no new start. Nor does what is there for all services and was
// not read, as an update of a package leaves it: it is read here.
func (m *Systemd) same(ctx context.Context, spec *Spec) (bool, error) {
	old, err := readUnit(m.dir, spec.Name)
	if err != nil || old.Pending || old.Spec.Digest() != spec.Digest() {
		return false, nil //nolint:nilerr // it is new, or written anew
	}
	shown, err := m.show(ctx, spec.Name)
	if err != nil {
		return false, err
	}
	why := m.drifted(spec, shown[m.service(spec.Name)])
	if why == unread && !m.touched(spec.Name, shown[m.service(spec.Name)]) {
		if _, err := m.ctl(ctx, "daemon-reload"); err != nil {
			return false, err
		}
		if shown, err = m.show(ctx, spec.Name); err != nil {
			return false, err
		}
		why = m.drifted(spec, shown[m.service(spec.Name)])
	}
	return why == "" || why == disabled, nil
}

// touched tells whether somebody has written a unit since it was put, or has changed it besides:
// it may run as it was told then, though the file is as it was.
func (m *Systemd) touched(name string, shown map[string]string) bool {
	file, err := os.Stat(m.unit(name))
	put, err2 := os.Stat(unitFile(m.dir, name))
	return err != nil || err2 != nil || file.ModTime().After(put.ModTime()) || strings.Contains(shown["DropInPaths"], m.edits(name)+"/")
}

// write tells systemd what a unit is to be, and takes away what somebody has told it besides.
func (m *Systemd) write(ctx context.Context, spec *Spec) error {
	grows, err := m.grows(ctx)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(m.edits(spec.Name)); err != nil {
		return err
	}
	if err := WriteFile(m.env(spec.Name), []byte(environmentFile(spec.Env))); err != nil {
		return err
	}
	if err := WriteFile(m.unit(spec.Name), []byte(m.text(spec, grows))); err != nil {
		return err
	}
	_, err = m.ctl(ctx, "daemon-reload")
	return err
}

var versionForm = regexp.MustCompile(`^systemd ([0-9]+)`)

// grows tells whether systemd has pauses that grow, as 254 was the first to have.
func (m *Systemd) grows(ctx context.Context) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.version == 0 {
		out, err := m.ctl(ctx, "--version")
		if err != nil {
			return false, err
		}
		found := versionForm.FindStringSubmatch(out)
		if found == nil {
			return false, fmt.Errorf("systemctl --version: %.100q has no version: %w", out, navvy.ErrUnsupported)
		}
		m.version, _ = strconv.Atoi(found[1])
	}
	return m.version >= 254, nil
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
	// One that has not ended well stays in systemd's list until that is forgotten; an error says
	// that it has ended well.
	_, _ = m.ctl(ctx, "reset-failed", m.service(name))
	if err := os.RemoveAll(m.edits(name)); err != nil {
		return fmt.Errorf("unit %s: %w", name, err)
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
	shown, err := m.show(ctx, name)
	if err != nil {
		return fmt.Errorf("unit %s: %w", name, err)
	}
	switch shown[service]["ActiveState"] {
	case "inactive", "failed": // stop refuses one that systemd does not know any more
	default:
		if err := m.run(ctx, name, "stop", service); err != nil {
			return err
		}
	}
	if err := os.Remove(m.wanted(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
