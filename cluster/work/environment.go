package work

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// Environment is that of a service, with the values that the file stands for.
type Environment struct {
	Pairs []string // NAME=VALUE, by name
	plain map[string]bool
}

// Plain tells whether the value of a variable is no secret.
func (e *Environment) Plain(name string) bool { return e.plain[name] }

// NewEnvironment looks up the values of a file's workers.environment: getenv gives variables
// of whoever applies it. Errors wrap navvy.ErrInvalid and name the key.
func NewEnvironment(c *config.Cluster, getenv func(string) string) (*Environment, error) {
	e := &Environment{plain: map[string]bool{}}
	for _, name := range slices.Sorted(maps.Keys(c.Workers.Environment)) {
		v := c.Workers.Environment[name]
		text, err := Resolve(c, "workers.environment."+name, &v, getenv)
		if err != nil {
			return nil, err
		}
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(text, 0) {
			return nil, fmt.Errorf("workers.environment: no process can be given %q: %w", name, navvy.ErrInvalid)
		}
		e.plain[name] = v.Plain()
		e.Pairs = append(e.Pairs, name+"="+text)
	}
	return e, nil
}

// Resolve is what a value of the file stands for. Errors wrap navvy.ErrInvalid and name the
// key.
func Resolve(c *config.Cluster, key string, v *config.Value, getenv func(string) string) (string, error) {
	text, err := v.Resolve(getenv, c.Dir)
	if errors.Is(err, navvy.ErrNotFound) {
		err = fmt.Errorf("%w: %w", err, navvy.ErrInvalid)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return text, nil
}

// AddEnvironment tells of an environment without its secrets, and the names together, for
// people.
func AddEnvironment(p driver.Properties, pairs []string, plain func(name string) bool, salt []byte) {
	names := make([]string, 0, len(pairs))
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		names = append(names, name)
		if !plain(name) {
			value = driver.Secret(salt, []byte(value))
		}
		p["environment."+name] = value
	}
	slices.Sort(names)
	p["variables"] = cmp.Or(strings.Join(names, " "), "none")
}

// Beside is a path that begins at the cluster's file.
func Beside(c *config.Cluster, path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.Dir, path)
	}
	return filepath.Clean(path)
}

// Absolute is a file whose paths begin nowhere else, so that what is kept of it means the same
// to whoever scales the cluster later, from anywhere.
func Absolute(c *config.Cluster) *config.Cluster {
	a := *c
	a.Share = slices.Clone(c.Share)
	for i := range a.Share {
		a.Share[i].From = Beside(c, a.Share[i].From)
	}
	if at := Beside(c, c.Service.Package); c.Service.Package != "" {
		if _, err := os.Stat(at); err == nil {
			a.Service.Package = at
		}
	}
	if c.Monitor.Dir != "" {
		a.Monitor.Dir = Beside(c, c.Monitor.Dir)
	}
	if c.Local != nil && c.Local.Dir != "" {
		local := *c.Local
		local.Dir = Beside(c, local.Dir)
		a.Local = &local
	}
	if c.SSH != nil {
		ssh := *c.SSH
		for _, path := range []*string{&ssh.Identity, &ssh.KnownHosts} {
			if *path != "" {
				*path = Beside(c, *path)
			}
		}
		a.SSH = &ssh
	}
	absoluteValues(c, &a)
	return &a
}

// absoluteValues is Absolute of the files that values are in.
func absoluteValues(c, a *config.Cluster) {
	beside := func(v config.Value) config.Value {
		if v.File != "" {
			v.File = Beside(c, v.File)
		}
		return v
	}
	if c.Queue.URL != nil {
		v := beside(*c.Queue.URL)
		a.Queue.URL = &v
	}
	a.Workers.Environment = maps.Clone(c.Workers.Environment)
	for name, v := range a.Workers.Environment {
		a.Workers.Environment[name] = beside(v)
	}
}
