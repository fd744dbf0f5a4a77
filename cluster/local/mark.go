package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/parcel"
)

// Names in the directory of a cluster.
const (
	markName   = "cluster.json"
	madeDir    = "made" // what there is, a record each
	unitsDir   = "units"
	serverDir  = "server"  // the server's data
	workersDir = "workers" // the workers' data
	filesDir   = "files"   // what services find, if there is no server
	secretsDir = "secrets"
	configDir  = "config" // in place of the user's own, for the server's contexts
	monitorDir = "monitor"
	// elsewhereDir is for those who have workers elsewhere.
	elsewhereDir = "elsewhere"
)

// parts are those that are navvy's with all that is in them.
var parts = []string{madeDir, unitsDir, serverDir, workersDir, filesDir, secretsDir, configDir, elsewhereDir}

// The supervisors.
const (
	supervisorSystemd = "systemd"
	supervisorNavvy   = "navvy"
)

const markVersion = 1

// mark is what says that a directory is a cluster's.
type mark struct {
	Version    int             `json:"version"`
	Name       string          `json:"name"`
	Config     json.RawMessage `json:"config"` // the file that was applied last
	Salt       []byte          `json:"salt"`
	Supervisor string          `json:"supervisor"`
	// MadeDir says that the directory itself is navvy's.
	MadeDir bool `json:"made_dir"`
	// Ports are where the server listens, on loopback.
	Ports ports `json:"ports,omitzero"`
}

// ports are chosen once for a cluster with a server.
type ports struct {
	GRPC   int `json:"grpc"`
	HTTP   int `json:"http"`
	Health int `json:"health"`
}

// site is a cluster that there is.
type site struct {
	d      *Driver
	name   string
	dir    string
	mark   *mark
	units  unit.Manager
	record *made // of what is made or removed now
}

func (s *site) path(names ...string) string {
	return filepath.Join(append([]string{s.dir}, names...)...)
}

// site finds a cluster; navvy.ErrNotFound if there is none of that name.
func (d *Driver) site(cluster string) (*site, error) {
	if err := config.ValidateName(cluster); err != nil {
		return nil, err
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(d.base(), cluster))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cluster %s: there is none in %s: %w", cluster, d.base(), navvy.ErrNotFound)
	} else if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", cluster, err)
	}
	m, err := readMark(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && m.Name != cluster {
		return nil, fmt.Errorf("cluster %s: %s is no cluster of that name: %w", cluster, dir, navvy.ErrNotFound)
	} else if err != nil {
		return nil, err
	}
	units, err := d.manager(m, dir)
	if err != nil {
		return nil, err
	}
	return &site{d: d, name: cluster, dir: dir, mark: m, units: units}, nil
}

func readMark(dir string) (*mark, error) {
	path := filepath.Join(dir, markName)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m, err := parseMark(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// parseMark reads a mark. The error wraps navvy.ErrCorrupt.
func parseMark(text []byte) (*mark, error) {
	m := new(mark)
	if err := unit.ParseJSON(text, markVersion, m); err != nil {
		return nil, err
	}
	return m, nil
}

// begunPrefix begins the names of what is being written, a number follows; who is killed
// leaves it there.
const begunPrefix = ".new-"

func begun(e fs.DirEntry) bool {
	number, is := strings.CutPrefix(e.Name(), begunPrefix)
	return is && number != "" && strings.Trim(number, "0123456789") == ""
}

// dropBegun removes from a directory, if there is one, what the dead have begun to write.
func dropBegun(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if begun(e) {
			err = errors.Join(err, parcelRemove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// markPart is the mark that is to be.
type markPart struct {
	dir        string
	config     []byte
	salt       []byte
	supervisor string
	server     bool
}

// put implements part; the mark is written by write, since there is no site before.
func (p *markPart) put(context.Context, *site, *driver.Resource) error { return nil }

// write makes the directory of a cluster and its mark, and has it found by its name.
func (p *markPart) write(_ context.Context, d *Driver, cluster string, _ *driver.Resource) error {
	if there, err := d.site(cluster); err == nil && there.dir != resolved(p.dir) {
		return fmt.Errorf("it is in %s, and cannot move to %s: destroy it first, or leave local.dir as it was: %w", there.dir, p.dir, navvy.ErrInvalid)
	} else if err != nil && !errors.Is(err, navvy.ErrNotFound) {
		return err
	}
	if err := makeDir(d.base()); err != nil {
		return err
	}
	m, err := p.prepare(d, cluster)
	if err != nil {
		return err
	}
	m.Config, m.Salt = p.config, p.salt
	if m.Supervisor == "" {
		m.Supervisor = p.supervisor
	} else if m.Supervisor != p.supervisor {
		return fmt.Errorf("%s keeps it up, and not %s: destroy it first, or leave local.supervisor as it was: %w", m.Supervisor, p.supervisor, navvy.ErrInvalid)
	}
	if p.server && m.Ports == (ports{}) {
		if m.Ports, err = choosePorts(); err != nil {
			return err
		}
	}
	if err := unit.WriteJSON(filepath.Join(p.dir, markName), m); err != nil {
		return err
	}
	for _, name := range []string{madeDir, secretsDir, workersDir} {
		if err := makeDir(filepath.Join(p.dir, name)); err != nil {
			return err
		}
	}
	return d.link(cluster, p.dir)
}

// prepare gives the mark that is there, or a new one for a directory that is nobody's.
func (p *markPart) prepare(d *Driver, cluster string) (*mark, error) {
	m, err := readMark(p.dir)
	if err == nil && m.Name != cluster {
		return nil, fmt.Errorf("%s is the cluster %s: give another local.dir: %w", p.dir, m.Name, navvy.ErrExists)
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	list, err := os.ReadDir(p.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// What was begun of a mark is no foreigner's.
	list = slices.DeleteFunc(list, begun)
	if len(list) > 0 {
		return nil, fmt.Errorf("%s is there, has %s in it and no mark of a cluster: give another local.dir, or move that away: %w", p.dir, list[0].Name(), navvy.ErrExists)
	}
	own := p.dir == filepath.Join(d.base(), cluster)
	return &mark{Version: markVersion, Name: cluster, MadeDir: own || err != nil}, makeDir(p.dir)
}

// link has a directory that is elsewhere found by the cluster's name.
func (d *Driver) link(cluster, dir string) error {
	at := filepath.Join(d.base(), cluster)
	if resolved(at) == resolved(dir) {
		return nil
	}
	if info, err := os.Lstat(at); err == nil {
		if info.Mode()&fs.ModeSymlink == 0 {
			return fmt.Errorf("%s is there, and is no cluster of navvy's: move it away: %w", at, navvy.ErrExists)
		}
		if err := os.Remove(at); err != nil { // it leads to no cluster, as site has found
			return err
		}
	}
	return os.Symlink(dir, at)
}

func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// choosePorts finds ports on loopback that nobody has now.
func choosePorts() (p ports, err error) {
	for _, port := range []*int{&p.GRPC, &p.HTTP, &p.Health} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return p, err
		}
		defer l.Close()
		*port = l.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}

// clear removes what is left of a cluster that has nothing else, its mark last.
func (d *Driver) clear(ctx context.Context, s *site) error {
	if err := unit.Clear(ctx, s.path(unitsDir)); err != nil {
		return err
	}
	d.mu.Lock()
	delete(d.units, s.dir)
	d.mu.Unlock()
	for _, name := range parts {
		if err := parcel.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// What Prometheus keeps beside its configuration is its own.
	_ = os.Remove(s.path(monitorDir))
	if err := dropBegun(s.dir); err != nil {
		return err
	}
	if err := os.Remove(s.path(markName)); err != nil {
		return err
	}
	at := filepath.Join(d.base(), s.name)
	if info, err := os.Lstat(at); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if err := os.Remove(at); err != nil {
			return err
		}
	}
	if s.mark.MadeDir {
		_ = os.Remove(s.dir) // if others have put nothing there
	}
	return nil
}

// Clusters implements driver.Driver.
func (d *Driver) Clusters(context.Context) ([]string, error) {
	entries, err := os.ReadDir(d.base())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if m, err := readMark(filepath.Join(d.base(), e.Name())); err == nil && m.Name == e.Name() {
			names = append(names, m.Name)
		}
	}
	return names, nil
}

// compact is JSON without what is for people.
func compact(text []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return text
	}
	return b.Bytes()
}
