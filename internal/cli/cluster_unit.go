package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy/cluster/unit"
)

// newClusterSupervise is the hidden verb of navvy's own supervisor: it keeps the units of a
// directory up until there are none.
func newClusterSupervise(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "supervise DIR", Hidden: true, Args: cobra.ExactArgs(1),
		Short: "keep the units of a directory up until there are none",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return a.superviseUnits(ctx, args[0], parentPipe())
		},
	}
}

// parentPipe is the pipe on file descriptor 3 with which a parent waits; nil for one that has
// passed none.
func parentPipe() *os.File {
	var st syscall.Stat_t
	if syscall.Fstat(3, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return nil
	}
	syscall.CloseOnExec(3) // a unit must not keep open what our parent waits for
	return os.NewFile(3, "ready")
}

// superviseUnits is a supervisor that tells whoever has started it how it starts; tell is nil
// if nobody waits for that.
func (a *app) superviseUnits(ctx context.Context, dir string, tell *os.File) error {
	said := false
	say := func(word string) {
		if tell != nil && !said {
			said = true
			_, _ = io.WriteString(tell, word)
			_ = tell.Close()
		}
	}
	log := slog.New(slog.NewTextHandler(a.err, nil))
	err := unit.Supervise(ctx, dir, &unit.Options{Logger: log}, func() error { say(unit.Serving); return nil })
	if errors.Is(err, unit.ErrHeld) {
		say("")
		return nil
	}
	if err != nil {
		say(err.Error())
	}
	return err
}

// newClusterUnit is the hidden verb with which another host's units are looked at and
// changed: ssh HOST navvy cluster unit …
func newClusterUnit(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "unit", Hidden: true, Args: cobra.NoArgs, Short: "units of a directory, with JSON on standard input and output",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list DIR", Args: cobra.ExactArgs(1), Short: "tell of each unit, an object a line",
			RunE: func(cmd *cobra.Command, args []string) error {
				m, err := a.openUnits(args[0])
				if err != nil {
					return err
				}
				list, err := m.List(cmd.Context())
				out := json.NewEncoder(a.out)
				for i := range list {
					err = errors.Join(err, out.Encode(&list[i]))
				}
				return errors.Join(err, m.Close())
			},
		},
		&cobra.Command{
			Use: "put DIR", Args: cobra.ExactArgs(1), Short: "make units what the objects on standard input say, all at once, and tell of each",
			RunE: func(cmd *cobra.Command, args []string) error {
				var specs []*unit.Spec
				for in := json.NewDecoder(a.in); ; {
					spec := new(unit.Spec)
					if err := in.Decode(spec); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						return usagef("standard input: %w", err)
					}
					specs = append(specs, spec)
				}
				return a.changeUnits(cmd.Context(), args[0], len(specs), func(ctx context.Context, m unit.Manager, i int) (string, error) {
					return specs[i].Name, m.Put(ctx, specs[i])
				})
			},
		},
		&cobra.Command{
			Use: "rm DIR NAME…", Args: cobra.MinimumNArgs(1), Short: "end units and forget them, and the directory with the last; tell of each",
			RunE: func(cmd *cobra.Command, args []string) error {
				names := args[1:]
				err := a.changeUnits(cmd.Context(), args[0], len(names), func(ctx context.Context, m unit.Manager, i int) (string, error) {
					return names[i], m.Remove(ctx, names[i])
				})
				if err != nil {
					return err
				}
				m, err := a.openUnits(args[0])
				if err != nil {
					return err
				}
				if list, err := m.List(cmd.Context()); err != nil || len(list) > 0 {
					return errors.Join(err, m.Close())
				}
				return errors.Join(unit.Clear(cmd.Context(), args[0]), m.Close())
			},
		},
	)
	return cmd
}

// unitAnswer tells what has become of one unit.
type unitAnswer struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"` // empty if it went well
}

// changeUnits does something to units at once, and tells of each as it is done.
func (a *app) changeUnits(ctx context.Context, dir string, n int, do func(ctx context.Context, m unit.Manager, i int) (string, error)) error {
	m, err := a.openUnits(dir)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	out := json.NewEncoder(a.out)
	failed := 0
	for i := range n {
		all.Go(func() {
			name, bad := do(ctx, m, i)
			answer := unitAnswer{Name: name}
			mu.Lock()
			defer mu.Unlock()
			if bad != nil {
				failed++
				answer.Error = bad.Error()
			}
			err = errors.Join(err, out.Encode(&answer))
		})
	}
	all.Wait()
	if failed > 0 {
		err = errors.Join(err, fmt.Errorf("%s of %d failed", count(int64(failed), "unit"), n))
	}
	return errors.Join(err, m.Close())
}

// openUnits opens the units of a directory that navvy's own supervisor keeps up.
func (a *app) openUnits(dir string) (*unit.Supervised, error) {
	command, err := superviseCommand()
	if err != nil {
		return nil, err
	}
	return unit.OpenSupervised(dir, command, outside(a.environ()))
}

// superviseCommand is how a supervisor is started.
func superviseCommand() ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("where navvy is: %w", err)
	}
	return []string{self, "cluster", "supervise"}, nil
}
