package cli

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newRoot is the whole tree of verbs.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "navvy",
		Short: "run the same piece of work over any number of inputs, and never lose an answer",
		Long: `navvy runs a command over any number of inputs, in parallel, and keeps every
answer on disk: each once, in the order of the inputs, whatever is killed in between.

Settings in the environment:
  NAVVY_SERVER       the server, as --server; NAVVY_CERT, NAVVY_KEY and NAVVY_CA as
                     --cert, --key and --ca, NAVVY_CONTEXT as --context
  NAVVY_DATA         the data directory, as --data; not of workers of a server
  NAVVY_STORE        the database that takes its place, as --store
  NAVVY_POLICY       a file that bounds what jobs may use, as --policy
  NAVVY_KEEP_UNREAD  how long answers stay that nobody has read: 36h, 60d (default 30d)
  NAVVY_KEEP_READ    how long others stay (default 7d)
  NAVVY_KEEP_SIZE    with more than this in all (500M, 20G), read ones leave earlier
  NAVVY_ADDR         in a task: the navvy that runs it, which navvy kv speaks with;
                     NAVVY_TASK_TOKEN is what the task shows there`,
		Example: `  navvy map -j 8 -- ./score.sh {} < inputs.txt > answers.txt
  navvy map -S 'gunzip -c {} | wc -l' ::: *.gz
  navvy run --timeout 1h -- make world
  navvy ls
  navvy resume 7k2`,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return noVerb(cmd, args[0])
		},
		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{HiddenDefaultCmd: false},
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetIn(a.in)
	root.SetFlagErrorFunc(flagError)
	root.Version = versionLine(a) // which makes cobra print it for --version
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, "print the version")
	a.globalFlags(root.PersistentFlags())
	_ = root.RegisterFlagCompletionFunc("context", a.completeTarget)
	addVerbs(a, root)
	root.AddCommand(newHolder(a), newBenchPart(a), newStage(a))
	root.AddCommand(newPodVerbs(a)...)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	finish(root)
	return root
}

// addVerbs adds the verbs that people use, in groups.
func addVerbs(a *app, root *cobra.Command) {
	root.AddGroup(
		&cobra.Group{ID: "work", Title: "Running work:"},
		&cobra.Group{ID: "look", Title: "Looking and steering:"},
		&cobra.Group{ID: "team", Title: "A team's navvy:"},
		&cobra.Group{ID: "house", Title: "The house itself:"},
	)
	for _, v := range []struct {
		group string
		verbs []*cobra.Command
	}{
		{"work", []*cobra.Command{newMap(a), newRun(a), newFn(a), newResume(a), newRetry(a)}},
		{"look", []*cobra.Command{newLs(a), newStatus(a), newWait(a), newResults(a), newLogs(a), newStop(a), newWhy(a), newRm(a), newQueue(a)}},
		{"team", []*cobra.Command{newServer(a), newDev(a), newWorker(a), newToken(a), newCert(a), newContext(a), newKV(a), newShare(a), newPackage(a), newClusterVerbs(a)}},
		{"house", []*cobra.Command{newVerify(a), newBench(a), newVersion(a)}},
	} {
		for _, verb := range v.verbs {
			verb.GroupID = v.group
			root.AddCommand(verb)
		}
	}
}

// globalFlags declares the flags that all verbs have.
func (a *app) globalFlags(fs *pflag.FlagSet) {
	fs.StringVar(&a.data, "data", "", "data directory (default $NAVVY_DATA, else $XDG_STATE_HOME/navvy, else ~/.local/state/navvy)")
	fs.StringVar(&a.store, "store", "", "keep the data in a database instead: postgres://HOST/DB; with a password, use $NAVVY_STORE")
	fs.StringVar(&a.remote.Server, "server", "", "speak with the navvy server at this `ADDR`, HOST or HOST:PORT (default $NAVVY_SERVER, else the current context)")
	fs.StringVar(&a.remote.context, "context", "", "speak with the server that this context names (default $NAVVY_CONTEXT); local for none")
	fs.StringVar(&a.remote.Cert, "cert", "", "the certificate to show to the server, a `FILE` (default $NAVVY_CERT, else that of the context)")
	fs.StringVar(&a.remote.Key, "key", "", "its key, a `FILE` (default $NAVVY_KEY)")
	fs.StringVar(&a.remote.CA, "ca", "", "the certificate of the server's authority, a `FILE` (default $NAVVY_CA)")
	fs.StringVar(&a.policy, "policy", "", "bound what jobs may use by this file (default $NAVVY_POLICY, else policy.yaml in the data directory)")
}

// noVerb is the error for a word that should be a verb.
func noVerb(root *cobra.Command, word string) error {
	err := usagef("there is no verb %q", word)
	if like := root.SuggestionsFor(word); len(like) > 0 {
		return withHint(err, "did you mean %s?", strings.Join(like, " or "))
	}
	return withHint(err, "navvy help lists them")
}

// flagError makes a usage error of a mistake in flags. Only who does not know
// the flags is sent to the help.
func flagError(cmd *cobra.Command, err error) error {
	bad, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return withHint(&usageError{err}, "see %s --help", cmd.CommandPath())
	}
	want := bad.Unwrap()
	if _, number := errors.AsType[*strconv.NumError](want); number {
		want = errors.New("want a whole number")
		if bad.GetFlag().Value.Type() == "bool" {
			want = errors.New("want true or false")
		}
	}
	return usagef("--%s %s: %w", bad.GetFlag().Name, cmp.Or(bad.GetValue(), `""`), want)
}

// finish makes mistakes in arguments usage errors, and gives the verbs that
// cobra brings along the examples and the care for arguments that ours have.
func finish(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Example = "  navvy help map"
			cmd.Args = func(_ *cobra.Command, args []string) error {
				if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return noVerb(root, strings.Join(args, " "))
				}
				return nil
			}
			continue
		case "completion":
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() } // one that runs has its arguments checked
			cmd.Example = "  source <(navvy completion bash)\n  navvy completion zsh > ~/.zfunc/_navvy\n  navvy completion fish > ~/.config/fish/completions/navvy.fish"
		}
		checkArgs(cmd)
	}
}

// checkArgs makes mistakes in the arguments of a verb, and of those below it, usage errors.
func checkArgs(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		checkArgs(sub)
	}
	check := cmd.Args
	if check == nil {
		return
	}
	cmd.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			ids := ""
			if len(args) == 0 && strings.Contains(c.Use, " ID") {
				ids = "; the ID of a job is what navvy ls shows"
			}
			return withHint(&usageError{fmt.Errorf("%s: %w", c.CommandPath(), err)}, "see %s --help%s", c.CommandPath(), ids)
		}
		return nil
	}
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: cobra.NoArgs,
		Example: "  navvy version",
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.out, versionLine(a))
			return err
		},
	}
}

func versionLine(a *app) string {
	return fmt.Sprintf("navvy %s %s %s/%s", a.version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
