package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"key": "s3cret\n", "windows": "s3cret\r\n", "lines": "a\nb\n\n", "empty": "\n", "large": strings.Repeat("x", maxValue+1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := func(name string) string { return map[string]string{"TOKEN": "s3cret"}[name] }
	for _, tc := range []struct {
		value Value
		want  string
		err   error
		says  string
	}{
		{Value{Text: "plain"}, "plain", nil, ""},
		{Value{}, "", nil, ""},
		{Value{Env: "TOKEN"}, "s3cret", nil, ""},
		{Value{File: "key"}, "s3cret", nil, ""},
		{Value{File: "./windows"}, "s3cret", nil, ""},
		{Value{File: filepath.Join(dir, "lines")}, "a\nb\n", nil, ""},
		{Value{Env: "NONE"}, "", navvy.ErrNotFound, "the variable NONE is not set, or empty"},
		{Value{File: "none"}, "", navvy.ErrNotFound, "the file " + filepath.Join(dir, "none") + " is not there"},
		{Value{File: "empty"}, "", navvy.ErrNotFound, "is empty"},
		{Value{File: "."}, "", navvy.ErrInvalid, "is no file"},
		{Value{File: "large"}, "", navvy.ErrInvalid, "has more than 1 MiB"},
	} {
		got, err := tc.value.Resolve(env, dir)
		if got != tc.want || !errors.Is(err, tc.err) || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: %q, %v", tc.value, got, err)
		}
	}
	c := wholeCluster()
	c.Dir = dir
	_, err := c.Resolve(env)
	if err == nil || !strings.HasPrefix(err.Error(), "queue.url: the variable BROKER is not set") || !strings.Contains(err.Error(), "\nshare[1].files.key: the file ") {
		t.Error(err)
	}
	c.Queue.URL.Env, c.Share[1].Files.Key.File = "TOKEN", "key"
	texts, err := c.Resolve(env)
	want := map[string]string{
		"queue.url": "s3cret", "share[1].files.key": "s3cret", "workers.environment.MODE": "fast", "workers.environment.DEBUG": "true",
		"workers.environment.LEVEL": "3", "workers.environment.EMPTY": "", "workers.environment.SINCE": "2026-01-02",
		"workers.environment.TOKEN": "s3cret", "workers.environment.KEY": "s3cret",
	}
	if diff := cmp.Diff(want, texts); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for span, want := range map[time.Duration]string{
		90 * time.Second: "1m30s", time.Minute: "1m", time.Hour: "1h", 10 * time.Minute: "10m", 100 * time.Hour: "100h",
		time.Hour + time.Second: "1h0m1s", 90 * time.Minute: "1h30m", 1500 * time.Millisecond: "1.5s", 100 * time.Millisecond: "100ms", 0: "0s",
	} {
		if got := Duration(span).String(); got != want {
			t.Errorf("%s: got %s, want %s", span, got, want)
		}
	}
}
