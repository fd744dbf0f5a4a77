package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/deploy/monitor"
)

// monitorPart are the files with which Prometheus and Grafana watch a cluster.
type monitorPart struct{ dir string }

// monitorMark says in a directory whose files it has.
const monitorMark = ".navvy-cluster"

func monitorSum() string {
	var all []byte
	for _, f := range monitor.Files("", "") {
		all = append(append(all, f.Name...), f.Text...)
	}
	return shortSum(all)
}

func (p *monitorPart) put(_ context.Context, s *site, _ *driver.Resource) error {
	if was := s.record.Data["dir"]; was != "" && was != p.dir {
		if err := s.removeMonitor(); err != nil {
			return err
		}
	}
	made, err := p.free(s)
	if err != nil {
		return err
	}
	if made {
		s.record.Data["made"] = "yes"
	}
	s.record.Data["dir"] = p.dir
	if err := s.writeMade(s.record); err != nil { // from now on it can be removed
		return err
	}
	if err := os.MkdirAll(p.dir, 0o755); err != nil { //nolint:gosec // Prometheus may run as another user
		return err
	}
	if err := unit.WriteFile(filepath.Join(p.dir, monitorMark), []byte(s.name+"\n")); err != nil {
		return err
	}
	for _, f := range monitor.Files(s.name, loopback(s.mark.Ports.Health)) {
		path := filepath.Join(p.dir, f.Name)
		if err := unit.WriteFile(path, f.Text); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o644); err != nil { //nolint:gosec // likewise
			return err
		}
	}
	return nil
}

// free refuses a directory that is somebody else's; missing tells that it is not there.
func (p *monitorPart) free(s *site) (missing bool, err error) {
	entries, err := os.ReadDir(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	entries = slices.DeleteFunc(entries, begun) // our mark may be among that
	whose, err := os.ReadFile(filepath.Join(p.dir, monitorMark))
	switch {
	case err == nil && strings.TrimSpace(string(whose)) != s.name:
		err = fmt.Errorf("%s has the files of the cluster %s: give another monitor.dir: %w", p.dir, strings.TrimSpace(string(whose)), navvy.ErrExists)
	case errors.Is(err, fs.ErrNotExist) && len(entries) > 0:
		err = fmt.Errorf("%s is there, and has %s in it: give another monitor.dir: %w", p.dir, entries[0].Name(), navvy.ErrExists)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	return false, err
}

// removeMonitor removes the files of the cluster, and their directory if navvy has made it and
// nobody has put anything beside them.
func (s *site) removeMonitor() error {
	dir := s.record.Data["dir"]
	if dir == "" {
		return nil
	}
	whose, err := os.ReadFile(filepath.Join(dir, monitorMark))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if strings.TrimSpace(string(whose)) != s.name {
		return nil // somebody else's by now
	}
	if err := dropBegun(dir); err != nil {
		return err
	}
	names := []string{}
	for _, f := range monitor.Files("", "") {
		names = append(names, f.Name)
	}
	for _, name := range append(names, monitorMark) { // the mark last
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if s.record.Data["made"] != "" {
		_ = os.Remove(dir)
	}
	return nil
}

// observeMonitor looks whether the files are what they were made as.
func (l *look) observeMonitor(m *made, o *driver.Observed) {
	dir := m.Data["dir"]
	changed := slices.ContainsFunc(monitor.Files(l.name, loopback(l.site.mark.Ports.Health)), func(f monitor.File) bool {
		text, err := os.ReadFile(filepath.Join(dir, f.Name))
		return err != nil || string(text) != string(f.Text)
	})
	if changed || l.moves {
		o.Properties["files"] = ""
	}
	o.Detail = "promtool check config " + filepath.Join(dir, "prometheus.yml")
}
