package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/internal/cli/format"
)

func newClusterStatus(a *app) *cobra.Command {
	f, list := &clusterFlags{}, &listFlags{}
	cmd := &cobra.Command{
		Use: "status {NAME | -f FILE} [flags]", Short: "what there is of a cluster, and how it goes",
		Long: `status lists the resources of a cluster and how each is, what is in its queues, and
its workers. It exits with 1 if something has failed.`,
		Example: "  navvy cluster status demo\n  navvy cluster status -f cluster.yaml -o json", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := list.check(); err != nil {
				return err
			}
			return a.withCluster(cmd.Context(), f, args, nil, func(ctx context.Context, t *clusterTarget) error {
				s, err := t.Status(ctx, t.name)
				if err != nil {
					return withHint(err, "navvy cluster ls lists them; --provider says where to look")
				}
				return a.showCluster(s, list)
			})
		},
	}
	f.addFile(cmd.Flags(), true)
	list.add(cmd)
	return cmd
}

func newClusterLs(a *app) *cobra.Command {
	f, list := &clusterFlags{}, &listFlags{}
	cmd := &cobra.Command{
		Use: "ls [flags]", Short: "list clusters",
		Example: "  navvy cluster ls\n  navvy cluster ls --provider kubernetes -o json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := list.check(); err != nil {
				return err
			}
			p, err := clusterProvider(cmp.Or(f.provider, string(config.ProviderLocal)))
			if err != nil {
				return err
			}
			return a.withProvider(cmd.Context(), p, nil, nil, func(ctx context.Context, c *cluster.Controller) error {
				return a.listClusters(ctx, c, p, list)
			})
		},
	}
	addProvider(cmd.Flags(), &f.provider, "", "where to look (default: on this machine)")
	list.add(cmd)
	return cmd
}

// clusterObject is a cluster as -o json lists it.
type clusterObject struct {
	Name     string `json:"name"`
	Provider string `json:"provider"`
	Health   string `json:"health"`
	Workers  int    `json:"workers"`
}

func (a *app) listClusters(ctx context.Context, c *cluster.Controller, p config.Provider, list *listFlags) error {
	names, err := c.Clusters(ctx)
	if err != nil {
		return err
	}
	out := list.objects(a.out)
	var rows [][]string
	for _, name := range names {
		o := clusterObject{Name: name, Provider: string(p), Health: string(driver.HealthUnknown)}
		switch s, err := c.Status(ctx, name); {
		case errors.Is(err, navvy.ErrNotFound):
			continue // it was just removed
		case err != nil && ctx.Err() != nil:
			return err
		case err != nil:
			a.say("%v", err)
		default:
			o.Health, o.Workers = string(s.Health()), workersOf(s)
		}
		if list.output == "table" {
			rows = append(rows, []string{o.Name, o.Provider, o.Health, strconv.Itoa(o.Workers)})
		} else if err := out.add(o); err != nil {
			return err
		}
	}
	switch {
	case list.output != "table":
		return out.close()
	case len(rows) == 0:
		a.say("there are no clusters; navvy cluster init > cluster.yaml begins one")
		return nil
	}
	return format.Table(a.out, []string{"NAME", "PROVIDER", "HEALTH", "WORKERS"}, rows)
}

// workersOf counts the workers that a cluster knows of.
func workersOf(s *cluster.Status) int {
	if s.Gauges != nil && len(s.Gauges.Workers) > 0 {
		return len(s.Gauges.Workers)
	}
	n := 0
	for i := range s.Resources {
		if s.Resources[i].Kind == "worker" {
			n++
		}
	}
	return n
}

// clusterStatusObject is the status of a cluster as -o json shows it.
type clusterStatusObject struct {
	Name      string           `json:"name"`
	Health    string           `json:"health"`
	Resources []resourceObject `json:"resources"`
	Queues    []gaugeObject    `json:"queues,omitempty"`
	Workers   []workingObject  `json:"workers,omitempty"`
	Trouble   string           `json:"trouble,omitempty"`
}

type resourceObject struct {
	Kind       string            `json:"kind"`
	Name       string            `json:"name"`
	Health     string            `json:"health"`
	Detail     string            `json:"detail,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
}

// gaugeObject is a queue; a number that nobody knows is null.
type gaugeObject struct {
	Name    string   `json:"name"`
	Waiting *int64   `json:"waiting"`
	Running *int64   `json:"running"`
	Answers *int64   `json:"answers"`
	Dead    *int64   `json:"dead_letters"`
	Rate    *float64 `json:"rate_per_second"`
}

type workingObject struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Slots int    `json:"slots"`
	Busy  int    `json:"busy"`
}

// showCluster prints the status of a cluster.
func (a *app) showCluster(s *cluster.Status, list *listFlags) error {
	var err error
	if list.output != "table" {
		err = list.one(a.out, newStatusObject(s))
	} else {
		err = a.drawCluster(s)
	}
	if err == nil && s.Health() == driver.HealthFailed {
		err = &exitError{code: 1}
	}
	return err
}

func newStatusObject(s *cluster.Status) *clusterStatusObject {
	o := &clusterStatusObject{Name: s.Name, Health: string(s.Health()), Resources: []resourceObject{}}
	for i := range s.Resources {
		r := &s.Resources[i]
		o.Resources = append(o.Resources, resourceObject{r.Kind, r.Name, string(r.Health), r.Detail, r.Properties})
	}
	if s.GaugesErr != nil {
		o.Trouble = s.GaugesErr.Error()
	}
	if s.Gauges == nil {
		return o
	}
	for _, q := range s.Gauges.Queues {
		o.Queues = append(o.Queues, gaugeObject{q.Name, knownNumber(q.Waiting), knownNumber(q.Running), knownNumber(q.Answers), knownNumber(q.Dead), knownNumber(q.Rate)})
	}
	for _, w := range s.Gauges.Workers {
		o.Workers = append(o.Workers, workingObject(w))
	}
	return o
}

// knownNumber is nil for what nobody knows.
func knownNumber[T int64 | float64](n T) *T {
	if n < 0 {
		return nil
	}
	return &n
}

// drawCluster draws tables of resources, queues and workers.
func (a *app) drawCluster(s *cluster.Status) error {
	var rows [][]string
	for i := range s.Resources {
		r := &s.Resources[i]
		rows = append(rows, []string{r.Kind, r.Name, string(r.Health), r.Detail})
	}
	if err := format.Table(a.out, []string{"KIND", "NAME", "HEALTH", ""}, rows); err != nil {
		return err
	}
	if s.GaugesErr != nil {
		a.say("what goes on in it is not known: %v", s.GaugesErr)
	}
	if s.Gauges == nil {
		return nil
	}
	rows = nil
	for _, q := range s.Gauges.Queues {
		rows = append(rows, []string{q.Name, number(q.Waiting), number(q.Running), number(q.Answers), number(q.Dead), rateOf(q.Rate)})
	}
	if err := a.below([]string{"QUEUE", "WAITING", "RUNNING", "ANSWERS", "DEAD", "RATE"}, rows); err != nil {
		return err
	}
	rows = nil
	for _, w := range s.Gauges.Workers {
		rows = append(rows, []string{w.Name, w.State, fmt.Sprintf("%d/%d", w.Busy, w.Slots)})
	}
	return a.below([]string{"WORKER", "STATE", "BUSY"}, rows)
}

// below draws a table behind another one, if there is something in it.
func (a *app) below(header []string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(a.out); err != nil {
		return err
	}
	return format.Table(a.out, header, rows)
}

func number(n int64) string {
	if n < 0 {
		return "?"
	}
	return format.Count(n)
}

func rateOf(rate float64) string {
	if rate < 0 {
		return "?"
	}
	return format.Rate(rate)
}
