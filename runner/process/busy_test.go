package process_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/navvy-run/navvy/runner/process"
)

// A program that is being written to is waited for, for a moment.
func TestBusyProgram(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	busy := func() *os.File {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := busy()
	p, err := process.Start(&process.Config{Args: []string{path}})
	_ = f.Close()
	if err == nil {
		_, _ = p.Wait(t.Context())
		t.Skip("this kernel runs programs that are being written to, as Linux 6.11 did")
	}
	for tries := 1; ; tries++ { // where there is no time for the timer it is too late
		f := busy()
		time.AfterFunc(5*time.Millisecond, func() { _ = f.Close() })
		p, err := process.Start(&process.Config{Args: []string{path}})
		if err == nil {
			if end, err := p.Wait(t.Context()); err != nil || end.Exit.Code != 0 {
				t.Errorf("ended as %+v: %v", end, err)
			}
			return
		}
		if tries == 10 {
			t.Fatal(err)
		}
	}
}
