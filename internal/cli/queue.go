package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/quantity"
)

func newQueue(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "queue", Short: "queues of jobs, with limits of their own",
		Long: `A queue is a name that jobs share: navvy map --queue NAME. It needs no settings;
with some, no more of its tasks run at once, or start in a time, than they say,
whoever's jobs they are of. Of a paused queue nothing starts; what runs goes on. One with a service has that
answer what names no work of its own: navvy map --queue NAME < inputs.

With a server, settings are for administrators. docs/queues.md has the rest.`,
		Example: `  navvy queue create gpu --concurrency 4
  navvy map --queue gpu -- ./train {} ::: a b c
  navvy queue ls`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newQueueSet(a, true), newQueueSet(a, false), newQueueLs(a), newQueueShow(a), newQueuePause(a), newQueueResume(a), newQueueRm(a),
		newQueueSend(a), newQueueRecv(a), newQueuePeek(a), newQueuePurge(a), newQueueDLQ(a), newQueueRedrive(a))
	return cmd
}

// changeQueues makes changes of queues. What their settings held back may go on then,
// if need be in the background; paused says that nothing more does.
func (a *app) changeQueues(ctx context.Context, paused bool, names []string, change func(c *conn, name string) error) error {
	for _, name := range names {
		if err := navvy.ValidateQueue(name); err != nil {
			return &usageError{err}
		}
	}
	return a.with(ctx, needSteer, func(c *conn) error {
		if c.holder != nil && !paused {
			c.need = needRun
		}
		var errs []error
		for _, name := range names {
			err := change(c, name)
			if errors.Is(err, navvy.ErrDenied) {
				err = withHint(err, "that is for administrators: on the server's machine give --data, its data directory; else --cert and --key of one")
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

func newQueueSet(a *app, create bool) *cobra.Command {
	f := &queueFlags{create: create}
	cmd := &cobra.Command{
		Use: "set [flags] NAME", Short: "change settings of a queue",
		Example: "  navvy queue set gpu --concurrency 8\n  navvy queue set api --rate 0\n  navvy queue set api --dispatch push\n  navvy queue set scores --service none\n  navvy queue set science --pod-template pod.yaml --toleration ''", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeQueues,
	}
	if create {
		cmd.Use, cmd.Short = "create [flags] NAME", "give a queue settings"
		cmd.Example = "  navvy queue create gpu --concurrency 4\n  navvy queue create api --rate 100/m\n  navvy queue create scores --service 'lines:/opt/score' --retries 2\n  navvy queue create science --namespace science --service-account runner --node-selector disk=fast --toleration gpu=yes:NoSchedule --pull-secret registry"
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		work, err := f.work(cmd, a, false)
		if err != nil {
			return err
		}
		change, err := f.change(a, cmd.Flags(), work)
		if err != nil {
			return err
		}
		if t, err := a.target(); err != nil {
			return err
		} else if create && t == nil {
			if _, err := a.dir(); err != nil { // it may be the first thing that is kept there
				return err
			}
		}
		return a.changeQueues(cmd.Context(), false, args, func(c *conn, name string) error {
			if work != nil && work.Service != nil {
				if change.Work, err = f.workThere(cmd, c); err != nil {
					return err
				}
			}
			q, err := c.SetQueue(cmd.Context(), name, change)
			if err != nil {
				return hintChange(err, name, &change)
			}
			if change.Broker != nil && q.Settings.Broker != nil {
				return a.tellAttached(cmd.Context(), c, &q)
			}
			return nil
		})
	}
	cmd.Flags().IntVar(&f.concurrency, "concurrency", 0, "so many tasks at once at most, of all its jobs; 0 for any number")
	cmd.Flags().StringVar(&f.rate, "rate", "", "so many starts at most: `N` or N/s a second, N/m a minute, N/h an hour; 0 for any number")
	cmd.Flags().StringVar(&f.dispatch, "dispatch", "", "the `WAY` in which its tasks come to workers: pull, push or round-robin; server for the server's own")
	f.attach.add(cmd.Flags())
	f.pods.add(cmd.Flags())
	ways(cmd, serversWay)
	f.workFlags.add(cmd)
	return cmd
}

// hintChange says what to do about a change of a queue that was refused.
func hintChange(err error, name string, change *client.QueueChange) error {
	if w := change.Work; w != nil && w.Service != nil && lacksPackage(err, w.Service.Package) {
		return packageHint(err, w.Service.Package)
	}
	switch {
	case errors.Is(err, navvy.ErrExists):
		return withHint(err, "navvy queue set %s changes them", name)
	case errors.Is(err, navvy.ErrNotFound):
		return withHint(err, "navvy queue create %s makes some", name)
	case errors.Is(err, navvy.ErrUnsupported) && (change.Dispatch != nil || change.Broker != nil):
		return withHint(err, "--server names a server; navvy server starts one")
	}
	return err
}

// queueFlags are those of queue create and set.
type queueFlags struct {
	workFlags
	create         bool
	concurrency    int
	rate, dispatch string
	attach         attachFlags
	pods           podFlags
}

// change is what the flags ask for.
func (f *queueFlags) change(a *app, flags *pflag.FlagSet, work *navvy.Spec) (change client.QueueChange, err error) {
	change.Create, change.Work = f.create, work
	if change.Broker, err = f.attach.change(a, flags); err != nil {
		return change, err
	}
	if change.Pods, err = f.pods.change(flags); err != nil {
		return change, err
	}
	if flags.Changed("concurrency") {
		change.Concurrency = &f.concurrency
	}
	if flags.Changed("rate") {
		r, err := quantity.ParseRate(f.rate)
		if err != nil {
			return change, usagef("--rate %w", err)
		}
		change.Rate = &r
	}
	if flags.Changed("dispatch") {
		way, err := queueDispatch(f.dispatch)
		if err != nil {
			return change, err
		}
		change.Dispatch = &way
	}
	if change == (client.QueueChange{}) {
		return change, usagef("queue set: there is nothing to change; give --concurrency, --rate, --dispatch, --service or how containers run, such as --namespace")
	}
	return change, nil
}

// serversWay is what says that a queue has no way of dispatch of its own.
const serversWay = "server"

func queueDispatch(text string) (navvy.Dispatch, error) {
	way := navvy.Dispatch(text)
	if text == serversWay {
		way = ""
	} else if way.Validate() != nil {
		return "", usagef("--dispatch %s: want %s, %s, %s or %s", text, navvy.Pull, navvy.Push, navvy.RoundRobin, serversWay)
	}
	return way, nil
}

func newQueuePause(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "pause NAME…", Short: "let nothing of queues start; what runs goes on",
		Example: "  navvy queue pause gpu", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeQueues,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeQueues(cmd.Context(), true, args, func(c *conn, name string) error {
				_, err := c.PauseQueue(cmd.Context(), name)
				return err
			})
		},
	}
}

func newQueueResume(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "resume NAME…", Short: "let paused queues go on",
		Example: "  navvy queue resume gpu", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeQueues,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeQueues(cmd.Context(), false, args, func(c *conn, name string) error {
				_, err := c.ResumeQueue(cmd.Context(), name)
				return hintQueues(err)
			})
		},
	}
}

func newQueueRm(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME…", Short: "take the settings of queues away; their jobs stay",
		Long: `rm takes the settings of queues away. Jobs that stand in a queue stay there; but as
long as its settings hold such jobs back, it is refused.`,
		Example: "  navvy queue rm gpu", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeQueues,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeQueues(cmd.Context(), false, args, func(c *conn, name string) error {
				err := c.RemoveQueue(cmd.Context(), name)
				if errors.Is(err, navvy.ErrConflict) {
					err = withHint(err, "navvy queue set %[1]s --concurrency 0 --rate 0, and navvy queue resume %[1]s, if it is paused", name)
				}
				return hintQueues(err)
			})
		},
	}
}

// hintQueues says where the queues are that have settings.
func hintQueues(err error) error {
	if errors.Is(err, navvy.ErrNotFound) {
		return withHint(err, "navvy queue ls shows the queues")
	}
	return err
}

// queueObject is a queue as -o json shows it.
type queueObject struct {
	Name        string  `json:"name"`
	Paused      bool    `json:"paused"`
	Concurrency int     `json:"concurrency"`     // 0 for any number
	Rate        float64 `json:"rate_per_second"` // 0 for any number
	Dispatch    string  `json:"dispatch,omitempty"`

	Service *workObject   `json:"service,omitempty"`
	Broker  *brokerObject `json:"broker,omitempty"`
	Pods    *podsObject   `json:"pods,omitempty"`

	Jobs    int64      `json:"jobs"`
	More    bool       `json:"more_jobs,omitempty"` // than were counted
	Waiting int64      `json:"waiting"`
	Running int64      `json:"running"`
	Created *time.Time `json:"created,omitempty"`
	By      string     `json:"by,omitempty"`

	Answers     int64 `json:"answers"`
	DeadLetters int64 `json:"dead_letters"`
	MoreLetters bool  `json:"more_letters,omitempty"` // than were counted
}

func newQueueLs(a *app) *cobra.Command {
	f := &listFlags{}
	cmd := &cobra.Command{
		Use: "ls [flags]", Short: "list queues that have settings or jobs",
		Example: "  navvy queue ls\n  navvy queue ls -o jsonl", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.with(cmd.Context(), needLook, func(c *conn) error { return a.listQueues(cmd.Context(), c, f) })
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) listQueues(ctx context.Context, c *conn, f *listFlags) error {
	out := f.objects(a.out)
	var rows [][]string
	for q, err := range c.Queues(ctx) {
		if err != nil {
			return err
		}
		if f.output == "table" {
			rows = append(rows, queueRow(&q))
			continue
		}
		if err := out.add(newQueueObject(&q)); err != nil {
			return err
		}
	}
	if f.output != "table" {
		return out.close()
	}
	if len(rows) == 0 {
		a.say("no queue has settings or jobs")
		return nil
	}
	return format.Table(a.out, queueColumns, rows)
}

// queueColumns are those of queueRow.
var queueColumns = []string{"QUEUE", "STATE", "AT ONCE", "RATE", "DISPATCH", "SERVICE", "JOBS", "WAITING", "RUNNING", "ANSWERS", "DEAD"}

// showQueue prints one queue.
func (a *app) showQueue(ctx context.Context, c *conn, name string, f *listFlags) error {
	for q, err := range c.Queues(ctx) {
		if err != nil {
			return err
		}
		switch {
		case q.Name != name:
			continue
		case f.output != "table":
			return f.one(a.out, newQueueObject(&q))
		}
		if err := format.Table(a.out, queueColumns, [][]string{queueRow(&q)}); err != nil {
			return err
		}
		return errors.Join(a.sayAttached(&q), a.sayPods(q.Settings.Pods))
	}
	return hintQueues(fmt.Errorf("queue %s has no settings and no jobs: %w", name, navvy.ErrNotFound))
}

// sayAttached says what the queue is attached to, and how that goes.
func (a *app) sayAttached(q *client.Queue) error {
	b := brokerOf(q)
	if b == nil {
		return nil
	}
	state := "its requests are answered"
	if b.Trouble != "" {
		state = "nothing comes from there: " + b.Trouble
	}
	_, err := fmt.Fprintf(a.out, "\nrequests   %s\nresponses  %s\nstate      %s\n", b.Requests, b.Responses, state)
	return err
}

func newQueueObject(q *client.Queue) queueObject {
	return queueObject{
		Name: q.Name, Paused: q.Settings.Paused, Concurrency: q.Settings.Concurrency, Rate: q.Settings.Rate, Dispatch: string(q.Settings.Dispatch),
		Service: newWork(q.Settings.Work), Broker: brokerOf(q), Pods: newPods(q.Settings.Pods),
		Jobs: q.Jobs, More: q.More, Waiting: q.Waiting, Running: q.Running, Created: orNil(q.Created), By: q.By,
		Answers: q.Answers, DeadLetters: q.DeadLetters, MoreLetters: q.MoreLetters,
	}
}

func queueRow(q *client.Queue) []string {
	state, most, jobs := "open", "", blankZero(q.Jobs)
	if q.Settings.Paused {
		state = "paused"
	} else if q.BrokerTrouble != "" {
		state = "no broker"
	}
	if q.Settings.Concurrency > 0 {
		most = strconv.Itoa(q.Settings.Concurrency)
	}
	if q.More {
		jobs += "+"
	}
	return []string{q.Name, state, most, rateText(q.Settings.Rate), string(q.Settings.Dispatch), workText(q.Settings.Work), jobs, blankZero(q.Waiting), blankZero(q.Running), lettersText(q, q.Answers), lettersText(q, q.DeadLetters)}
}

// lettersText is how many letters there are, as far as they were counted.
func lettersText(q *client.Queue, n int64) string {
	if q.MoreLetters && n >= mostLetters {
		return strconv.FormatInt(n, 10) + "+"
	}
	return blankZero(n)
}

// mostLetters is how many a server counts of each kind.
const mostLetters = 1000

// rateText writes a number of starts a second in the unit that makes it a whole number, if one does.
func rateText(rate float64) string {
	if rate == 0 {
		return ""
	}
	for _, u := range []struct {
		name    string
		seconds float64
	}{{"s", 1}, {"m", 60}, {"h", 3600}} {
		n := math.Round(rate * u.seconds)
		if n >= 1 && math.Abs(n-rate*u.seconds) < 1e-9*n {
			return fmt.Sprintf("%.0f/%s", n, u.name)
		}
	}
	return strconv.FormatFloat(rate, 'g', 6, 64) + "/s"
}

// redacted is a URL without its password or token.
func redacted(raw string) string {
	if u, err := url.Parse(raw); err == nil {
		return navvy.ShownURL(u)
	}
	return "(no URL)"
}

// line says where the job stands.
func (f *jobFlags) line(job *navvy.Job) error {
	job.Queue, job.Priority = f.queue, int32(f.priority)
	err := navvy.ValidateQueue(f.queue)
	switch {
	case strings.Contains(f.queue, "://"):
		return usagef("--queue %s: a broker's queue takes the inputs of navvy map alone; navvy's own queues have plain names", redacted(f.queue))
	case err != nil:
		return usagef("--queue: %w", err)
	case int(job.Priority) != f.priority:
		return usagef("--priority %d: want a number from %d to %d", f.priority, math.MinInt32, math.MaxInt32)
	}
	return nil
}
