package azure

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
)

// plain tells whether a value itself is in the file, and not where it comes from.
func plain(v config.Value) bool { return v.Env == "" && v.File == "" }

// resolve is the text of a value. The error never holds what was read.
func (k *compilation) resolve(key string, v config.Value) (string, error) {
	switch {
	case v.Env != "":
		text := k.d.o.Getenv(v.Env)
		if text == "" {
			return "", fmt.Errorf("azure: %s: the variable %s is not set: set it where navvy is run: %w", key, v.Env, navvy.ErrNotFound)
		}
		return text, nil
	case v.File != "":
		path := v.File
		if !filepath.IsAbs(path) {
			path = filepath.Join(k.c.Dir, path)
		}
		text, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return "", fmt.Errorf("azure: %s: the file %s is not there: %w", key, path, navvy.ErrNotFound)
		}
		return strings.TrimRight(string(text), "\r\n"), err
	}
	return v.Text, nil
}

// span writes a time as the file does: 60s is 1m.
func span(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
