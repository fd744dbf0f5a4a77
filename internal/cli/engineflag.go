package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pause"
)

// What containers run on.
const (
	engineAuto       = "auto"
	engineKubernetes = "kubernetes"
	engineDocker     = "docker"
	engineContainerd = "containerd"
)

var engines = []string{engineAuto, engineKubernetes, engineDocker, engineContainerd}

// addEngine adds the flag of who runs containers. usual is what it runs them on unless told.
func addEngine(fs *pflag.FlagSet, engine *string, usual string) {
	fs.StringVar(engine, "engine", "", "what containers run on: "+strings.Join(engines, ", ")+" (default $NAVVY_ENGINE, else "+usual+")")
}

// containerEngine is what containers run on: what the flag says, or the environment. Who runs
// tasks of others gives them no engine of this machine unasked: whoever commands one could
// command the machine.
func (a *app) containerEngine() (string, error) {
	asked, by := a.engine, "--engine"
	if asked == "" {
		asked, by = a.env("NAVVY_ENGINE"), "NAVVY_ENGINE"
	}
	switch {
	case asked == "" && a.forOthers:
		return engineKubernetes, nil
	case asked == "":
		return engineAuto, nil
	case !slices.Contains(engines, asked):
		return "", usagef("%s %s: want %s", by, asked, strings.Join(engines, ", "))
	}
	return asked, nil
}

// dockerConfig is the directory of the configuration of Docker's command line, with whose
// credentials images are pulled: that of who runs navvy. Tasks of others get it only from who says so.
func (a *app) dockerConfig() string {
	dir, home := a.env("DOCKER_CONFIG"), a.env("HOME")
	if dir == "" && !a.forOthers && home != "" {
		dir = filepath.Join(home, ".docker")
	}
	return dir
}

// someEngine refuses what asks for containers where they cannot run. An engine of this machine
// that somebody else's process would use is that one's affair.
// One that was asked for, and does not answer, may be about to start: it has some time.
func (a *app) someEngine() error {
	engine, err := a.containerEngine()
	if err != nil {
		return err
	}
	o := &runnerOptions{env: a.env, engine: engine}
	ctx, cancel := context.WithTimeout(context.Background(), enginePatience)
	defer cancel()
	again := pause.Series{First: firstEnginePause, Longest: longestEnginePause}
	for first := true; ; first = false {
		switch err = noContainers(ctx, o); {
		case err == nil, !o.ownEngine(), !errors.Is(err, navvy.ErrUnavailable):
			return err
		case first:
			a.tell("navvy: %s; waiting %s for it\n", err, enginePatience)
		}
		if again.Wait(ctx) != nil {
			return withHint(err, "start %s, or see whether this user may reach it; --engine %s takes whatever there is", engine, engineAuto)
		}
	}
}

// For how long a command waits for the engine that it names, and the pauses between its looks.
const (
	enginePatience     = 5 * time.Second
	firstEnginePause   = 100 * time.Millisecond
	longestEnginePause = time.Second
)

// noEngine says that there is nothing to run containers on, and why not each of what there
// could be.
func noEngine(why []error) error {
	words := make([]string, len(why))
	for i, err := range why {
		words[i] = err.Error()
	}
	return fmt.Errorf("there is nothing to run containers on, neither Kubernetes nor Docker nor containerd: %s: %w", strings.Join(words, "; "), navvy.ErrUnavailable)
}
