package service_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/parcel"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/service"
)

// packageOf packs a service that says a word, and where it is, with each line.
func packageOf(t testing.TB, word string) string {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\nread -r word < lib/word\nwhile read -r line; do echo \"$word $line $PWD $(ls | tr '\\n' ' ')\"; done\n"
	archive := filepath.Join(t.TempDir(), "packed")
	f, err := os.Create(archive)
	err = errors.Join(err, os.Mkdir(filepath.Join(dir, "lib"), 0o700),
		os.WriteFile(filepath.Join(dir, "say"), []byte(script), 0o700), os.WriteFile(filepath.Join(dir, "lib/word"), []byte(word+"\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parcel.Pack(t.Context(), f, dir, nil)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return archive
}

// packaged is a task for a service of a package, whose archive is opened by open.
func packaged(version, owner, body string, open func(context.Context) (*os.File, error)) (*driver.Task, func() string) {
	task, out := taskOf(&navvy.Spec{Service: &navvy.Service{
		Form: "lines:./say", Package: &navvy.Package{Name: "ocr", Version: version, Owner: "ops", SHA256: strings.Repeat(version, 64)},
	}}, owner, body)
	task.Package = open
	return task, out.String
}

// says has a service of a package answer.
func says(t testing.TB, d driver.Driver, version, owner, body, archive string, opened *atomic.Int64) string {
	t.Helper()
	task, out := packaged(version, owner, body, func(context.Context) (*os.File, error) {
		opened.Add(1)
		return os.Open(archive)
	})
	if end, err := ends(t, d, task); err != nil || end.Refusal != nil {
		t.Errorf("%s of version %s ended with %+v, %v", body, version, end.Refusal, err)
	}
	return out()
}

// holds tells of how many packages there must be in a directory.
func holds(t testing.TB, dir string, want int) {
	t.Helper()
	if there, err := os.ReadDir(dir); err != nil || len(there) != want {
		t.Errorf("there are %v, %v; want %d", there, err, want)
	}
}

// Two versions run side by side, each from what it is; an owner's is unpacked once for a
// service, whoever asks, and another owner has another one. They go with their services.
func TestPackages(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "packages")
	// What a crash has left is not taken for a package.
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "1/lib"), 0o700), os.WriteFile(filepath.Join(dir, "1/half"), nil, 0o400), os.Chmod(filepath.Join(dir, "1"), 0o500)); err != nil {
		t.Fatal(err)
	}
	d := newDriver(t, service.DriverOptions{Packages: dir})
	one, two := packageOf(t, "one"), packageOf(t, "two")
	var opened atomic.Int64
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if got := says(t, d, "1", "ann", "x", one, &opened); !strings.HasPrefix(got, "one x ") || !strings.HasSuffix(got, " lib say ") {
				t.Errorf("version 1 says %q", got)
			}
			if got := says(t, d, "2", "ann", "x", two, &opened); !strings.HasPrefix(got, "two x ") {
				t.Errorf("version 2 says %q", got)
			}
		})
	}
	all.Wait()
	if n := opened.Load(); n != 2 {
		t.Errorf("two packages were deployed %d times", n)
	}
	mine, bobs := says(t, d, "1", "ann", "x", one, &opened), says(t, d, "1", "bob", "x", one, &opened)
	if mine == bobs || opened.Load() != 3 {
		t.Errorf("ann's runs in %q, and bob's in %q", mine, bobs)
	}
	holds(t, dir, 3)
	if err := d.Vacate(t.Context(), "bob"); err != nil {
		t.Error(err)
	}
	holds(t, dir, 1)
	if got := says(t, d, "1", "ann", "x", one, &opened); !strings.HasPrefix(got, "one x ") || opened.Load() != 4 {
		t.Errorf("deployed again it says %q", got)
	}
}

// A package that cannot be deployed fails the task for good, or gives it back, by whose
// fault that is; the next one is not kept from it, and nothing is left.
func TestPackageTroubles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "packages")
	d := newDriver(t, service.DriverOptions{Packages: dir})
	whole := packageOf(t, "one")
	text, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(t.TempDir(), "half")
	if err := os.WriteFile(half, text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	refuses := func(words string, reason navvy.Reason, change func(*driver.Task)) {
		t.Helper()
		task, _ := packaged("1", "ann", "x", func(context.Context) (*os.File, error) { return os.Open(whole) })
		change(task)
		end, err := ends(t, d, task)
		if err != nil || end.Refusal == nil || end.Refusal.Reason != reason || !strings.Contains(end.Refusal.Message, words) {
			t.Errorf("want %s with %q, got %+v, %v", reason, words, end.Refusal, err)
		}
	}
	refuses("package ocr@1 of ops: ", navvy.ReasonInput, func(task *driver.Task) {
		task.Package = func(context.Context) (*os.File, error) { return os.Open(half) }
	})
	refuses("gone", navvy.ReasonInput, func(task *driver.Task) {
		task.Package = func(context.Context) (*os.File, error) {
			return nil, &driver.Refusal{Reason: navvy.ReasonInput, Message: "gone"}
		}
	})
	refuses("echo", navvy.ReasonStart, func(task *driver.Task) { task.Spec.Service.Form = "echo" })
	refuses("no-such: no such program", navvy.ReasonNotFound, func(task *driver.Task) { task.Spec.Service.Form = "lines:./no-such" })
	task, _ := packaged("1", "ann", "x", func(context.Context) (*os.File, error) { return nil, navvy.ErrExhausted })
	if _, err := ends(t, d, task); err == nil {
		t.Error("a full disk is the task's fault")
	} else if _, ok := errors.AsType[*driver.Away](err); !ok {
		t.Errorf("a full disk: %v", err)
	}
	holds(t, dir, 0)
	var opened atomic.Int64
	if got := says(t, d, "1", "ann", "x", whole, &opened); !strings.HasPrefix(got, "one x ") {
		t.Errorf("after all that it says %q", got)
	}
	if refusal := newCapable(t).Refuse(task.Spec); refusal == nil || !strings.Contains(refusal.Message, "package") {
		t.Errorf("without a place for packages: %+v", refusal)
	}
}

// newCapable is what a driver without a place for packages says of itself.
func newCapable(t testing.TB) *driver.Capabilities {
	t.Helper()
	caps := newDriver(t, service.DriverOptions{}).Capabilities()
	return &caps
}

// At its end a driver leaves nothing.
func TestPackagesEnd(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "packages")
	d := service.NewDriver(&service.DriverOptions{Processes: processes(t, process.Options{}), Packages: dir})
	var opened atomic.Int64
	says(t, d, "1", "ann", "x", packageOf(t, "one"), &opened)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}
