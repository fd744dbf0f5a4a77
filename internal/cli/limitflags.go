package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/quantity"
)

// limitFlags are the flags that bound tasks and separate them, under the names
// that Docker has for them, and that say where they may run.
type limitFlags struct {
	placeFlags
	limits  navvy.Limits
	isolate bool
	own     *pflag.FlagSet
	network string
}

// limitGroup is the annotation of the flags that help shows under a title of their own.
const limitGroup = "navvy_limits"

// add declares them.
func (f *limitFlags) add(cmd *cobra.Command) {
	f.declare()
	f.placeFlags.add(f.own)
	f.show(cmd, "Limits of each task")
}

// addLimits declares the flags that bound and separate, without those that say where.
func (f *limitFlags) addLimits(cmd *cobra.Command, title string) {
	f.declare()
	f.show(cmd, title)
}

func (f *limitFlags) declare() {
	own := pflag.NewFlagSet("limits", pflag.ContinueOnError)
	f.own = own
	amount := func(name, short, kind string, parse func(string) (int64, error), field func(*navvy.Limits) *int64, usage string) {
		own.VarP(&amount{limits: &f.limits, field: field, kind: kind, parse: parse}, name, short, usage)
	}
	size, count, bps, iops := quantity.ParseSize, quantity.ParseCount, perSecond(quantity.ParseSize), perSecond(quantity.ParseCount)
	amount("cpus", "", "cores", quantity.ParseCPUs, func(l *navvy.Limits) *int64 { return &l.CPUs }, "cores that a task may use: 1.5")
	amount("cpu-shares", "", "number", count, func(l *navvy.Limits) *int64 { return &l.CPUShares }, "its weight where tasks compete for cores, 2 to 262144 (default 1024)")
	amount("memory", "m", "size", size, func(l *navvy.Limits) *int64 { return &l.Memory }, "memory that it may have, without swap: 512M; beyond, it is killed")
	amount("pids-limit", "", "number", count, func(l *navvy.Limits) *int64 { return &l.PIDs }, "processes and threads that it may have at once: 64")
	amount("device-read-bps", "", "size", bps, func(l *navvy.Limits) *int64 { return &l.ReadBPS }, "bytes a second that it may read from each disk behind its directory: 50M")
	amount("device-write-bps", "", "size", bps, func(l *navvy.Limits) *int64 { return &l.WriteBPS }, "bytes a second that it may write there: 20M")
	amount("device-read-iops", "", "number", iops, func(l *navvy.Limits) *int64 { return &l.ReadIOPS }, "reads a second there: 500")
	amount("device-write-iops", "", "number", iops, func(l *navvy.Limits) *int64 { return &l.WriteIOPS }, "writes a second there: 500")
	amount("output-limit", "", "size", size, func(l *navvy.Limits) *int64 { return &l.Output }, "bytes that it may write to standard output and error, and as many that a function may return: 100M; beyond, it is ended")
	own.Var(&ulimits{list: &f.limits.Ulimits}, "ulimit", "a limit of each of its processes: nofile=1024:2048, core=unlimited; may be repeated")
	own.BoolVar(&f.isolate, "isolate", false, "separate tasks from this machine and from each other: own processes, /tmp, directory, few rights; with a server the default of users")
	own.Var(&network{&f.network}, "network", "host for this machine's network, none for no network at all (default host)")
}

// show gives a command the flags, under a title of their own.
func (f *limitFlags) show(cmd *cobra.Command, title string) {
	f.own.VisitAll(func(flag *pflag.Flag) { flag.Annotations = map[string][]string{limitGroup: nil} })
	cmd.Flags().AddFlagSet(f.own)
	complete := func(words ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
	}
	_ = cmd.RegisterFlagCompletionFunc("network", complete(navvy.NetworkNone, navvy.NetworkHost))
	names := make([]string, len(navvy.UlimitNames))
	for i, name := range navvy.UlimitNames {
		names[i] = name + "="
	}
	_ = cmd.RegisterFlagCompletionFunc("ulimit", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
	cmd.SetUsageFunc(func(cmd *cobra.Command) error { return groupedUsage(cmd, title) })
}

// names are those of the flags.
func (f *limitFlags) names() (list []string) {
	f.own.VisitAll(func(flag *pflag.Flag) { list = append(list, flag.Name) })
	return list
}

// notIsolated tells whether the flags say that the job is not to be isolated.
func (f *limitFlags) notIsolated() bool { return !f.isolate && f.own.Changed("isolate") }

// bound puts what the flags say into a spec.
func (f *limitFlags) bound(s *navvy.Spec) {
	s.Limits, s.Isolate, s.Network = f.limits, f.isolate, f.network
	f.place(s)
}

// amount is a flag that is one number of the limits, not 0.
type amount struct {
	limits *navvy.Limits
	field  func(*navvy.Limits) *int64
	text   string
	kind   string
	parse  func(string) (int64, error)
}

// Set reads the flag's text.
func (a *amount) Set(text string) error {
	n, err := a.parse(text)
	if err != nil {
		return whyOf(err)
	}
	if n == 0 {
		return errors.New("want more than 0; without the flag there is no limit")
	}
	var alone navvy.Limits
	*a.field(&alone) = n
	if err := alone.Validate(); err != nil {
		return err
	}
	*a.field(a.limits), a.text = n, text
	return nil
}

// String is what was set.
func (a *amount) String() string { return a.text }

// Type names the kind of number in help.
func (a *amount) Type() string { return a.kind }

// whyOf is the error of a parser without the text that it was given, which the
// message has already.
func whyOf(err error) error {
	if refused, ok := errors.AsType[*quantity.Error](err); ok {
		return errors.New(refused.Why)
	}
	return err
}

// perSecond reads a rate, which Docker has behind the name of a device.
func perSecond(parse func(string) (int64, error)) func(string) (int64, error) {
	return func(text string) (int64, error) {
		if device, amount, ok := strings.Cut(text, ":"); ok && strings.HasPrefix(device, "/") {
			return 0, fmt.Errorf("want %s alone: navvy finds the devices behind the working directory itself", amount)
		}
		return parse(text)
	}
}

// ulimits is a flag that is given once for each ulimit.
type ulimits struct{ list *[]navvy.Ulimit }

// Set adds one; the last one of a name counts.
func (u *ulimits) Set(text string) error {
	one, err := quantity.ParseUlimit(text)
	if err != nil {
		return whyOf(err)
	}
	for i := range *u.list {
		if (*u.list)[i].Name == one.Name {
			(*u.list)[i] = one
			return nil
		}
	}
	*u.list = append(*u.list, one)
	return nil
}

// String is what was set.
func (u *ulimits) String() string {
	var words []string
	if u.list != nil {
		for _, one := range *u.list {
			words = append(words, quantity.Ulimit(one))
		}
	}
	return strings.Join(words, " ")
}

// Type names the value in help.
func (u *ulimits) Type() string { return "name=soft:hard" }

// network is the flag of that name.
type network struct{ to *string }

// Set takes one of the networks.
func (n *network) Set(text string) error {
	if text != navvy.NetworkHost && text != navvy.NetworkNone {
		return fmt.Errorf("want %s or %s", navvy.NetworkNone, navvy.NetworkHost)
	}
	*n.to = text
	return nil
}

// String is what was set.
func (n *network) String() string {
	if n.to == nil {
		return ""
	}
	return *n.to
}

// Type names the values in help.
func (n *network) Type() string { return "none|host" }

// groupedUsage is cobra's usage with the limits under a title of their own.
func groupedUsage(cmd *cobra.Command, title string) error {
	plain, limits := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		if _, ok := flag.Annotations[limitGroup]; ok {
			limits.AddFlag(flag)
			return
		}
		plain.AddFlag(flag)
	})
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "Usage:\n  %s\n\nExamples:\n%s\n\nFlags:\n%s\n%s:\n%s\nGlobal Flags:\n%s",
		cmd.UseLine(), cmd.Example, plain.FlagUsages(), title, limits.FlagUsages(), cmd.InheritedFlags().FlagUsages())
	return err
}
