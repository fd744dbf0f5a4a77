package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
)

// maxValue bounds a file that a Value names, in bytes.
const maxValue = 1 << 20

// reference is how a Value that is no text is written.
type reference struct {
	Env  string `json:"env,omitempty"`
	File string `json:"file,omitempty"`
}

// Plain tells whether the value itself is in the file, and not where it comes from.
func (v Value) Plain() bool { return v.Env == "" && v.File == "" }

// MarshalJSON writes a text as it is, and a reference as {"env": NAME} or {"file": PATH}.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.Plain() {
		return json.Marshal(v.Text)
	}
	return json.Marshal(reference{v.Env, v.File})
}

// String is the value for people: a reference says where it comes from.
func (v Value) String() string {
	switch {
	case v.Env != "":
		return "variable " + v.Env
	case v.File != "":
		return "file " + v.File
	default:
		return v.Text
	}
}

// Resolve is the text itself, or that of the variable, which env gives, or that of the file,
// whose path begins at dir, without a line feed at its end. Errors wrap navvy.ErrNotFound for
// a variable that is not set or empty and a file that is not there or empty, and never hold
// what was read; the caller adds the key.
func (v Value) Resolve(env func(string) string, dir string) (string, error) {
	switch {
	case v.Plain():
		return v.Text, nil
	case v.Env != "":
		text := env(v.Env)
		if text == "" {
			return "", fmt.Errorf("the variable %s is not set, or empty; set it where navvy is run: %w", v.Env, navvy.ErrNotFound)
		}
		return text, nil
	}
	path := v.File
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	text, err := readValue(path)
	if err != nil {
		return "", err
	}
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if text == "" {
		return "", fmt.Errorf("the file %s is empty: %w", path, navvy.ErrNotFound)
	}
	return text, nil
}

func readValue(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case os.IsNotExist(err):
		return "", fmt.Errorf("the file %s is not there: %w", path, navvy.ErrNotFound)
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no file: %w", path, navvy.ErrInvalid)
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxValue+1))
	switch {
	case err != nil:
		return "", err
	case len(text) > maxValue:
		return "", fmt.Errorf("the file %s has more than %d MiB: %w", path, maxValue>>20, navvy.ErrInvalid)
	}
	return string(text), nil
}

// Values are all of a cluster's, by their keys, such as queue.url.
func (c *Cluster) Values() map[string]Value {
	values := map[string]Value{}
	if c.Queue.URL != nil {
		values["queue.url"] = *c.Queue.URL
	}
	for i := range c.Share {
		if f := c.Share[i].Files; f != nil && f.Key != nil {
			values[fmt.Sprintf("share[%d].files.key", i)] = *f.Key
		}
	}
	for name, v := range c.Workers.Environment {
		values["workers.environment."+name] = v
	}
	return values
}

// Resolve resolves all values of a cluster, by their keys. The error tells all that cannot
// be had, a line each, with its key.
func (c *Cluster) Resolve(env func(string) string) (map[string]string, error) {
	texts := map[string]string{}
	var wrong []error
	values := c.Values()
	for _, key := range sorted(values) {
		text, err := values[key].Resolve(env, c.Dir)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", key, err))
		}
		texts[key] = text
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	return texts, nil
}

// MarshalJSON writes a time span as 90s, 5m or 1h30m.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// String is the time span as the file has it: 90s, 5m, 1h30m.
func (d Duration) String() string {
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
