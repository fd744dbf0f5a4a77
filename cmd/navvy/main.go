// Command navvy runs the same piece of work over any number of inputs, and
// never loses an answer. See navvy help.
package main

import (
	"os"

	"github.com/navvy-run/navvy/internal/cli"
)

// version is set when a release is built.
var version = "devel"

func main() {
	os.Exit(cli.Main(version))
}
