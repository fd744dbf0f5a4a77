package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
)

// fleetObject is a worker as -o json shows it.
type fleetObject struct {
	workerObject
	State     string      `json:"state"`
	Slots     int         `json:"slots"`
	Version   string      `json:"version"`
	Used      *usedObject `json:"used,omitempty"`
	Joined    *time.Time  `json:"joined,omitempty"`
	Connected *time.Time  `json:"connected,omitempty"`
}

// usedObject is what the tasks of a worker have reserved.
type usedObject struct {
	CPUs      float64          `json:"cpus,omitempty"`
	Memory    int64            `json:"memory,omitempty"` // bytes
	Resources map[string]int64 `json:"resources,omitempty"`
}

const milli = 1000

func newFleetObject(w *client.FleetWorker) fleetObject {
	o := fleetObject{
		workerObject: workerObject{
			Name: w.Name, Kinds: w.Kinds, Running: w.Running, Abilities: []abilitiesObject{},
			Labels: w.Offer.Labels, CPUs: float64(w.Offer.CPUs) / milli, Memory: w.Offer.Memory, Resources: w.Offer.Resources,
			Quarantine: w.Quarantine,
		},
		State: w.State, Slots: w.Slots, Version: w.Version, Joined: orNil(w.Joined), Connected: orNil(w.Connected),
	}
	if w.Running > 0 {
		o.Used = &usedObject{CPUs: float64(w.Used.CPUs) / milli, Memory: w.Used.Memory, Resources: w.Used.Resources}
	}
	for i := range w.Abilities {
		o.Abilities = append(o.Abilities, newAbility(&w.Abilities[i]))
	}
	return o
}

func newWorkerLs(a *app) *cobra.Command {
	f := &listFlags{}
	cmd := &cobra.Command{
		Use: "ls [flags]", Short: "list the workers of a server",
		Long: `ls lists the workers that are connected, and those that were and are away.

A worker is ready; draining, when it takes no further tasks; quarantined, when tasks
fail at once on it that succeed elsewhere; silent, when it has not been heard of for
longer than a lease; lost, when its connection broke; left, when it was told to end.

PYTHON is the version that it calls functions with, or none; show tells which picklers
it has, or why there is none.`,
		Example: "  navvy worker ls\n  navvy worker ls -o jsonl", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.withServer(cmd.Context(), func(c *client.Client, _ *target) error { return a.listWorkers(cmd.Context(), c, f) })
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) listWorkers(ctx context.Context, c *client.Client, f *listFlags) error {
	list, err := c.Fleet(ctx)
	if err != nil {
		return err
	}
	out := f.objects(a.out)
	var rows [][]string
	for i := range list {
		w := &list[i]
		if f.output != "table" {
			if err := out.add(newFleetObject(w)); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{
			w.Name, w.State, fmt.Sprintf("%d/%s", w.Running, slotsText(w.Slots)), offerText(&w.Offer), pythonOf(w), seen(w), w.Version,
		})
		for i := range w.Abilities {
			if w.Abilities[i].Absent {
				a.say("worker %s does no work of kind %s: %s", w.Name, w.Abilities[i].Kind, w.Abilities[i].Lacks)
			}
		}
	}
	if f.output != "table" {
		return out.close()
	}
	return format.Table(a.out, []string{"NAME", "STATE", "RUNNING", "HAS", "PYTHON", "CONNECTED", "VERSION"}, rows)
}

// pythonOf is the version of a worker's Python; none if it calls no functions, and empty
// if it is away, or does not say.
func pythonOf(w *client.FleetWorker) string {
	for i := range w.Abilities {
		switch a := &w.Abilities[i]; {
		case a.Kind != navvy.KindFunction:
		case a.Absent:
			return "none"
		default:
			version, _, _ := strings.Cut(strings.TrimPrefix(a.With, "Python "), " ")
			return version
		}
	}
	return ""
}

func slotsText(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func seen(w *client.FleetWorker) string {
	if w.Connected.IsZero() {
		return ""
	}
	return moment(w.Connected)
}

func newWorkerShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "show all that is known of a worker, as JSON",
		Example: "  navvy worker show build2-7k2px", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeWorkers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withServer(cmd.Context(), func(c *client.Client, _ *target) error {
				list, err := c.Fleet(cmd.Context())
				if err != nil {
					return err
				}
				for i := range list {
					if list[i].Name == args[0] {
						return (&listFlags{output: "json"}).one(a.out, newFleetObject(&list[i]))
					}
				}
				return withHint(fmt.Errorf("worker %q: %w", args[0], navvy.ErrNotFound), "navvy worker ls lists them")
			})
		},
	}
}

func newWorkerDrain(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "drain NAME…", Short: "tell workers to take no further tasks, and to end when they have none",
		Long: `drain tells connected workers to leave: they get no further tasks, let those end that
they run, and end. It does not wait for that. What starts them may start them again,
as a service manager does; rm keeps a worker out.`,
		Example: "  navvy worker drain build2-7k2px", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeWorkers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachWorker(cmd.Context(), args, (*client.Client).DrainWorker)
		},
	}
}

func newWorkerRm(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME…", Short: "remove workers: what they run others run, and they cannot come back",
		Long: `rm ends the sessions of workers, gives what they run to others at once, revokes their
certificates and forgets them. A worker that is to end in peace is drained first.`,
		Example: "  navvy worker rm build2-7k2px", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeWorkers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachWorker(cmd.Context(), args, (*client.Client).RemoveWorker)
		},
	}
}

// eachWorker does something to each of some workers, whatever becomes of the others.
func (a *app) eachWorker(ctx context.Context, names []string, do func(*client.Client, context.Context, string) error) error {
	return a.withServer(ctx, func(c *client.Client, _ *target) error {
		var errs []error
		for _, name := range names {
			err := do(c, ctx, name)
			if errors.Is(err, navvy.ErrNotFound) {
				err = withHint(err, "navvy worker ls lists them")
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

// offerText is what a worker has, in a line.
func offerText(o *navvy.Offer) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(o.Resources)) {
		parts = append(parts, fmt.Sprintf("%s=%d", name, o.Resources[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Labels)) {
		parts = append(parts, name+"="+o.Labels[name])
	}
	return strings.Join(parts, " ")
}
