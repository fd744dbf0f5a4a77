package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/server/auth"
)

// serverContext is how one server is reached: its address, and the files of the
// certificate, its key, and the authority that vouches for the server.
type serverContext struct {
	Server string `yaml:"server" json:"server"`
	Cert   string `yaml:"cert" json:"cert"`
	Key    string `yaml:"key" json:"key"`
	CA     string `yaml:"ca" json:"ca"`
	// Data is the data directory of the server whose start has made the context;
	// empty if somebody has added it.
	Data string `yaml:"data,omitempty" json:"data,omitempty"`
}

// like tells whether two contexts say the same, whoever has made them.
func (c serverContext) like(other serverContext) bool {
	c.Data = other.Data
	return c == other
}

// contextsFile is config.yaml: servers by name, and which of them is current.
type contextsFile struct {
	Current  string                   `yaml:"current,omitempty"`
	Contexts map[string]serverContext `yaml:"contexts,omitempty"`
}

// localContext is the name that stands for no server: the data directory.
const localContext = "local"

// configDir is where the configuration of this user lies.
func (a *app) configDir() (string, error) {
	if config := a.env("XDG_CONFIG_HOME"); filepath.IsAbs(config) {
		return filepath.Join(config, "navvy"), nil
	}
	if home := a.env("HOME"); home != "" {
		return filepath.Join(home, ".config", "navvy"), nil
	}
	return "", withHint(fmt.Errorf("there is no place for navvy's configuration: HOME is not set: %w", navvy.ErrInvalid), "set HOME or XDG_CONFIG_HOME")
}

// configName is that of the file in configDir.
const configName = "config.yaml"

// loadContexts reads the file; an empty one if there is none, and no place for one.
func (a *app) loadContexts() (contextsFile, error) {
	dir, err := a.configDir()
	if err != nil {
		return contextsFile{Contexts: map[string]serverContext{}}, nil //nolint:nilerr // who uses no server needs no place
	}
	return readContexts(filepath.Join(dir, configName))
}

func readContexts(path string) (contextsFile, error) {
	f := contextsFile{Contexts: map[string]serverContext{}}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	} else if err != nil {
		return f, &usageError{err}
	}
	if err := f.parse(text); err != nil {
		return f, withHint(usagef("%s: %w", path, err), "mend the file, or remove it and add its contexts again: navvy context add --help")
	}
	return f, nil
}

// unknownKey is how package yaml tells of a key that is not known.
var unknownKey = regexp.MustCompile(`field (\S+) not found in type \S+`)

// parseConfig reads YAML. A key that is not known is refused: misspelt, it would be one
// that is missing.
func parseConfig(text []byte, f any) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(f); err != nil && !errors.Is(err, io.EOF) {
		text := strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:"))
		return errors.New(unknownKey.ReplaceAllString(text, "there is no key $1"))
	}
	return nil
}

// parse reads the contexts and checks them.
func (f *contextsFile) parse(text []byte) error {
	if err := parseConfig(text, f); err != nil {
		return err
	}
	if f.Contexts == nil {
		f.Contexts = map[string]serverContext{}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Contexts)) {
		c := f.Contexts[name]
		if err := c.check(name); err != nil {
			return err
		}
		f.Contexts[name] = c
	}
	if _, ok := f.Contexts[f.Current]; !ok && f.Current != "" {
		return fmt.Errorf("the current context is %q, and there is none of that name", f.Current)
	}
	return nil
}

var contextName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

// checkContextName refuses what cannot name a context.
func checkContextName(name string) error {
	if name == localContext {
		return fmt.Errorf("the name %s stands for the data directory of this machine", name)
	}
	if !contextName.MatchString(name) {
		return fmt.Errorf("%q is no name of a context: want up to 64 letters, digits and . _ @ -", name)
	}
	return nil
}

// check refuses a context that is not complete, and writes its address in full.
func (c *serverContext) check(name string) error {
	if err := checkContextName(name); err != nil {
		return err
	}
	for _, part := range []struct{ name, value string }{{"server", c.Server}, {"cert", c.Cert}, {"key", c.Key}, {"ca", c.CA}} {
		if part.value == "" {
			return fmt.Errorf("context %s has no %s", name, part.name)
		}
	}
	at, err := parseAddress(c.Server)
	if err != nil {
		return fmt.Errorf("context %s: %w", name, err)
	}
	c.Server = at
	return nil
}

// changeContexts reads the file, changes it and writes it, alone.
func (a *app) changeContexts(change func(*contextsFile) error) error {
	return a.changeConfig(configName, func(path string) (any, error) {
		f, err := readContexts(path)
		if err != nil {
			return nil, err
		}
		return &f, change(&f)
	})
}

// changeConfig writes a file of the configuration anew, alone: change reads it and gives
// what is to be in it.
func (a *app) changeConfig(name string, change func(path string) (any, error)) error {
	dir, err := a.configDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	alone, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	defer alone.Close()
	if err := unix.Flock(int(alone.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("configuration: lock %s: %w", dir, err)
	}
	path := filepath.Join(dir, name)
	changed, err := change(path)
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(changed)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return auth.WriteFile(path, text)
}

// defaultPort is that of a server whose address names none.
const defaultPort = "7433"

// parseAddress reads HOST or HOST:PORT, and gives HOST:PORT.
func parseAddress(text string) (string, error) {
	wrong := fmt.Errorf("%q is no address of a server: want HOST or HOST:PORT", text)
	if text == "" || strings.ContainsAny(text, "/@ \t\n") {
		return "", wrong
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), defaultPort
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", wrong
		}
	}
	if host == "" {
		host = "localhost"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strings.ContainsAny(host, "[]%") {
		return "", wrong
	}
	return net.JoinHostPort(strings.ToLower(host), port), nil
}

// sameServer tells whether two addresses, written in full, are those of one
// server: however this machine is called by itself.
func sameServer(a, b string) bool {
	return canonical(a) == canonical(b)
}

func canonical(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	ip := net.ParseIP(host)
	if host == "localhost" || ip != nil && ip.IsLoopback() {
		host = "localhost"
	} else if ip != nil {
		host = ip.String()
	}
	return net.JoinHostPort(strings.TrimSuffix(host, "."), port)
}
