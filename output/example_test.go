package output_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/runner/process"
)

// A process writes, and two readers follow it, each from the first byte on. Log
// and collector need no process: whatever has a writer's two streams will do.
func Example() {
	log := output.NewLog(nil) // in memory; Create keeps it in a file
	out := output.Capture(log)
	p, err := process.Start(&process.Config{
		Args:   []string{"/bin/sh", "-c", "echo one; echo two; echo oops >&2"},
		Stdout: out.Stdout(), Stderr: out.Stderr(),
	})
	if err != nil {
		fmt.Println("it cannot be run:", err)
		return
	}

	ctx := context.Background()
	var readers sync.WaitGroup
	var seen [2]struct{ stdout, stderr bytes.Buffer }
	for i := range seen {
		readers.Go(func() {
			if err := output.Copy(&seen[i].stdout, &seen[i].stderr, log.Reader(ctx)); err != nil {
				fmt.Println("read:", err)
			}
		})
	}

	end, err := p.Wait(ctx)
	if err == nil {
		_, err = out.Finish() // all of it is in the log, or this says why not
	}
	log.Finish(err) // the readers end
	readers.Wait()
	fmt.Println("exit code", end.Exit.Code, err)
	for i := range seen {
		fmt.Printf("reader %d: %q %q\n", i, seen[i].stdout.String(), seen[i].stderr.String())
	}
	// Output:
	// exit code 0 <nil>
	// reader 0: "one\ntwo\n" "oops\n"
	// reader 1: "one\ntwo\n" "oops\n"
}

// What lies in the file of a log can be read when its log is no more.
func ExampleCreate() {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("output-%d.log", os.Getpid()))
	log, err := output.Create(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	out := output.Capture(log)
	_, _ = out.Stdout().Write([]byte("rather long\n")) // Finish has the errors of all writes
	_, _ = out.Stderr().Write([]byte("and loud\n"))
	_, err = out.Finish()
	log.Finish(err)
	// After Sync a power cut takes nothing of it.
	if err := errors.Join(err, log.Sync(), log.Close()); err != nil {
		fmt.Println(err)
	}

	file, err := os.Open(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	err = output.Copy(os.Stdout, os.Stdout, file)
	if err := errors.Join(err, file.Close(), os.Remove(path)); err != nil {
		fmt.Println(err)
	}
	// Output:
	// rather long
	// and loud
}
