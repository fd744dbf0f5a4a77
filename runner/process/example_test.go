package process_test

import (
	"context"
	"fmt"
	"os"

	"github.com/navvy-run/navvy/runner/process"
)

// A program runs to its end, with its output and its exit code. To end it
// earlier, with all that it has started, call its Stop.
func Example() {
	p, err := process.Start(&process.Config{
		Args:   []string{"sh", "-c", "tr a-z A-Z; exit 3"},
		Env:    []string{"PATH=/usr/local/bin:/usr/bin:/bin"},
		Input:  []byte("hello\n"),
		Stdout: os.Stdout,
	})
	if err != nil {
		fmt.Println("it cannot be run:", err)
		return
	}
	end, err := p.Wait(context.Background())
	fmt.Println("exit code", end.Exit.Code, err)
	// Output:
	// HELLO
	// exit code 3 <nil>
}
