package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/internal/cli/format"
)

func newClusterPlan(a *app) *cobra.Command {
	f, list := &clusterFlags{}, &listFlags{}
	cmd := &cobra.Command{
		Use: "plan -f FILE [flags]", Short: "tell what apply would do; nothing is done",
		Example: "  navvy cluster plan -f cluster.yaml\n  navvy cluster plan -f cluster.yaml -o json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := list.check(); err != nil {
				return err
			}
			return a.withCluster(cmd.Context(), f, nil, nil, func(ctx context.Context, t *clusterTarget) error {
				p, err := t.Plan(ctx, t.file)
				if err != nil {
					return err
				}
				says, left := t.Preview(ctx, p)
				if list.output != "table" {
					o := newPlanObject(p)
					o.add(says, left)
					return list.one(a.out, o)
				}
				if err := writePlan(a.out, p); err != nil {
					return err
				}
				return writePreviews(a.out, says, left)
			})
		},
	}
	f.addFile(cmd.Flags(), false)
	f.addHosts(cmd.Flags())
	list.add(cmd)
	return cmd
}

func newClusterApply(a *app) *cobra.Command {
	f := &clusterFlags{}
	cmd := &cobra.Command{
		Use: "apply -f FILE [flags]", Short: "make, change or mend what a file describes",
		Long: `apply makes what the file describes, and removes what it describes no longer. Once more
it does nothing. What fails keeps nothing else from being made that does not need it; the
next apply goes on from there, whoever calls it.

If something would be lost by a change, such as requests that nobody has answered,
nothing is done without --yes.`,
		Example: "  navvy cluster apply -f cluster.yaml\n  navvy cluster apply -f cluster.yaml --wait 5m", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.withCluster(cmd.Context(), f, nil, a.changing(f), func(ctx context.Context, t *clusterTarget) error {
				p, err := t.Apply(ctx, t.file)
				return a.changed(t.name, p, err)
			})
		},
	}
	f.addFile(cmd.Flags(), false)
	f.addHosts(cmd.Flags())
	f.addChange(cmd.Flags(), "yes, what the changes lose may be lost")
	return cmd
}

func newClusterScale(a *app) *cobra.Command {
	f := &clusterFlags{}
	workers := -1
	cmd := &cobra.Command{
		Use: "scale NAME --workers N [flags]", Short: "give a cluster another number of workers",
		Long: `scale gives a cluster another number of workers, and leaves the rest as it was applied
last: what is missing is made, and what would become another, as where a variable that the
file names has another value here, is refused. The file is not changed: the next apply goes
by what it says.`,
		Example: "  navvy cluster scale demo --workers 200\n  navvy cluster scale -f cluster.yaml --workers 200", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if workers < 0 {
				return usagef("--workers N is missing: want 0 or more")
			}
			return a.withCluster(cmd.Context(), f, args, a.changing(f), func(ctx context.Context, t *clusterTarget) error {
				p, err := t.Scale(ctx, t.name, workers)
				return a.changed(t.name, p, err)
			})
		},
	}
	f.addFile(cmd.Flags(), true)
	f.addChange(cmd.Flags(), "yes, what the changes lose may be lost")
	cmd.Flags().IntVar(&workers, "workers", workers, "so many workers")
	return cmd
}

func newClusterDestroy(a *app) *cobra.Command {
	f, force := &clusterFlags{}, false
	cmd := &cobra.Command{
		Use: "destroy NAME [flags]", Short: "remove all that there is of a cluster",
		Long: `destroy removes all that bears the cluster's mark, with requests and answers that are
still in its queues. It asks first; --yes answers that, and is needed where nobody can
be asked. Removed again, a cluster that there is not is no error.

With provider: ssh a host on which nobody can sign in keeps the cluster from going: it
does not answer, lets navvy in no more, or shows a key that is not known. --force forgets
such hosts: what is on them stays there, and is told with the command that removes it by
hand. Where the cause is on this machine, such as a key that is not there, none is
forgotten.`,
		Example: "  navvy cluster destroy demo\n  navvy cluster destroy demo --yes --provider kubernetes\n  navvy cluster destroy demo --provider ssh --force", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			asked := *f
			asked.yes = true // the answer
			told := &clusterProgress{app: a}
			o := a.changingTold(&asked, told)
			o.Force = force
			return a.withCluster(cmd.Context(), f, args, o, func(ctx context.Context, t *clusterTarget) error {
				if !f.yes {
					p, err := t.PlanDestroy(ctx, t.name)
					if err == nil && !p.Empty() {
						err = a.confirm(t.name, p)
					}
					if err != nil {
						return err
					}
				}
				p, err := t.Destroy(ctx, t.name)
				told.sayLeft()
				return a.changed(t.name, p, err)
			})
		},
	}
	f.addFile(cmd.Flags(), true)
	f.addChange(cmd.Flags(), "yes, all of it is to go")
	cmd.Flags().BoolVar(&force, "force", false, "with provider: ssh, forget hosts that do not answer, are not trusted or let navvy in no more, with what is on them")
	return cmd
}

// confirm asks whether a cluster is to go.
func (a *app) confirm(name string, p *cluster.Plan) error {
	if err := writePlan(a.err, p); err != nil {
		return err
	}
	if in, ok := a.in.(*os.File); a.terminal == nil || !ok || !term.IsTerminal(int(in.Fd())) {
		return withHint(usagef("cluster destroy: nobody can be asked here"), "--yes says that all of it is to go")
	}
	_, _ = fmt.Fprintf(a.err, "Type %s to remove all of it: ", name)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if strings.TrimSpace(line) != name {
		return &exitError{code: 1, err: fmt.Errorf("cluster %s: nothing was removed", name)}
	}
	return nil
}

// changed says what was done.
func (a *app) changed(name string, p *cluster.Plan, err error) error {
	if err != nil {
		return hintCluster(err)
	}
	if p.Empty() {
		a.say("cluster %s: nothing to do, %s", name, asTheyShould(p.Same))
		return nil
	}
	a.say("cluster %s: %s", name, summary(p, true))
	return nil
}

func asTheyShould(n int) string {
	switch n {
	case 0:
		return "there is none"
	case 1:
		return "1 resource is as it should be"
	}
	return format.Count(int64(n)) + " resources are as they should be"
}

// summary counts the changes of a plan, before or after they were made.
func summary(p *cluster.Plan, made bool) string {
	var parts []string
	for _, of := range actions {
		n := p.Count(of.action)
		switch {
		case n == 0:
		case made:
			parts = append(parts, fmt.Sprintf("%d %s", n, of.made))
		default:
			parts = append(parts, fmt.Sprintf("%d to %s", n, of.action))
		}
	}
	if p.Same > 0 {
		parts = append(parts, fmt.Sprintf("%d as it should be", p.Same))
	}
	return strings.Join(parts, ", ")
}

// actions are those of plans, and how they are drawn.
var actions = []struct {
	action     cluster.Action
	sign, made string
}{
	{cluster.Create, "+", "created"}, {cluster.Alter, "~", "changed"}, {cluster.Repair, "!", "repaired"}, {cluster.LookFor, "?", "found"},
	{cluster.Remove, "-", "removed"},
}

// writePlan draws a plan.
func writePlan(w io.Writer, p *cluster.Plan) error {
	if p.Empty() {
		_, err := fmt.Fprintf(w, "cluster %s: nothing to do, %s\n", p.Cluster, asTheyShould(p.Same))
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %s: %s\n\n", p.Cluster, summary(p, false))
	for i := range p.Changes {
		writeChange(&b, &p.Changes[i])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeChange(b *strings.Builder, c *cluster.Change) {
	sign := ""
	for _, of := range actions {
		if of.action == c.Action {
			sign = of.sign
		}
	}
	fmt.Fprintf(b, "  %s %s %s", sign, c.Action, format.Printable(c.ID.String()))
	if c.Why != "" {
		fmt.Fprintf(b, ": %s", format.Printable(c.Why))
	}
	b.WriteByte('\n')
	if c.Holds != "" {
		fmt.Fprintf(b, "      lost with it: %s\n", format.Printable(c.Holds))
	}
	for _, d := range c.Differences {
		switch {
		case d.Is == "" && d.Want == "":
		case d.Is == "":
			fmt.Fprintf(b, "      %s: %s\n", d.Key, format.Printable(d.Want))
		default:
			fmt.Fprintf(b, "      %s: %s -> %s\n", d.Key, format.Printable(d.Is), cmp.Or(format.Printable(d.Want), "none"))
		}
	}
}

// clusterProgress tells on standard error how changes go.
type clusterProgress struct {
	app        *app
	all, ended int
	left       []*driver.AwayError // what was forgotten
}

func (p *clusterProgress) waiting(h driver.Holder) {
	p.app.say("%s changes it since %s (%s); waiting", h.Who, h.Since.Local().Format(time.TimeOnly), h.What)
}

func (p *clusterProgress) planned(plan *cluster.Plan) { p.all = len(plan.Changes) }

func (p *clusterProgress) tell(e cluster.Event) {
	if e.Phase == cluster.Begun {
		return
	}
	p.ended++
	what := fmt.Sprintf("[%d/%d] %s %s", p.ended, p.all, e.Change.Action, e.Change.ID)
	switch e.Phase {
	case cluster.Failed:
		p.app.say("%s: failed: %v", what, e.Err)
	case cluster.Left:
		p.app.say("%s: left out: %v", what, e.Err)
	case cluster.Done:
		p.app.say("%s: done in %s", what, format.Duration(e.Took))
	case cluster.Forgotten:
		p.app.say("%s: forgotten: %v", what, e.Err)
		if away, is := errors.AsType[*driver.AwayError](e.Err); is && away.Left != "" {
			p.left = append(p.left, away)
		}
	case cluster.Begun:
	}
}

// sayLeft tells what was forgotten, and how it is removed.
func (p *clusterProgress) sayLeft() {
	for _, away := range p.left {
		p.app.say("left %s; to remove that:\n  %s", away.Left, away.ByHand)
	}
}

// planObject is a plan as -o json shows it.
type planObject struct {
	Cluster string         `json:"cluster"`
	Same    int            `json:"same"`
	Changes []changeObject `json:"changes"`
	// Of a provider that can tell by itself what would change:
	Provider []previewObject `json:"provider,omitempty"`
	NotAsked int             `json:"not_asked,omitempty"`
}

type changeObject struct {
	Action      string             `json:"action"`
	Kind        string             `json:"kind"`
	Name        string             `json:"name"`
	Why         string             `json:"why,omitempty"`
	Lost        string             `json:"lost,omitempty"`
	Differences []differenceObject `json:"differences,omitempty"`
}

type differenceObject struct {
	Key  string `json:"key"`
	Is   string `json:"is"`
	Want string `json:"want"`
}

func newPlanObject(p *cluster.Plan) *planObject {
	o := &planObject{Cluster: p.Cluster, Same: p.Same, Changes: make([]changeObject, 0, len(p.Changes))}
	for i := range p.Changes {
		c := &p.Changes[i]
		change := changeObject{Action: string(c.Action), Kind: c.Kind, Name: c.Name, Why: c.Why, Lost: c.Holds}
		for _, d := range c.Differences {
			change.Differences = append(change.Differences, differenceObject(d))
		}
		o.Changes = append(o.Changes, change)
	}
	return o
}
