package cli

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
)

// newRoot is the whole tree of verbs.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "navvy",
		Short: "run the same piece of work over any number of inputs, and never lose an answer",
		Long: `navvy runs a command over any number of inputs, in parallel, and keeps every
answer on disk: each once, in the order of the inputs, whatever is killed in between.`,
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
			err := usagef("there is no verb %q", args[0])
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				return withHint(err, "did you mean %s?", strings.Join(like, " or "))
			}
			return withHint(err, "navvy help lists them")
		},
		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{HiddenDefaultCmd: false},
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetIn(a.in)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return withHint(&usageError{err}, "see %s --help", cmd.CommandPath())
	})
	root.PersistentFlags().StringVar(&a.data, "data", "", "data directory (default $NAVVY_DATA, else $XDG_STATE_HOME/navvy, else ~/.local/state/navvy)")
	root.PersistentFlags().StringVar(&a.store, "store", "", "keep the data in a database instead: postgres://HOST/DB; with a password, use $NAVVY_STORE")
	root.AddGroup(
		&cobra.Group{ID: "work", Title: "Running work:"},
		&cobra.Group{ID: "look", Title: "Looking and steering:"},
		&cobra.Group{ID: "house", Title: "The house itself:"},
	)
	for _, v := range []struct {
		group string
		verbs []*cobra.Command
	}{
		{"work", []*cobra.Command{newMap(a), newRun(a), newResume(a), newRetry(a)}},
		{"look", []*cobra.Command{newLs(a), newStatus(a), newWait(a), newResults(a), newLogs(a), newStop(a), newWhy(a), newRm(a)}},
		{"house", []*cobra.Command{newVerify(a), newBench(a), newVersion(a)}},
	} {
		for _, verb := range v.verbs {
			verb.GroupID = v.group
			root.AddCommand(verb)
		}
	}
	root.AddCommand(newHolder(a), newBenchPart(a))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	finish(root)
	return root
}

// finish makes mistakes in arguments usage errors, and gives the verbs that
// cobra brings along the examples that ours have.
func finish(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Example = "  navvy help map"
		case "completion":
			cmd.Example = "  source <(navvy completion bash)\n  navvy completion zsh > ~/.zfunc/_navvy\n  navvy completion fish > ~/.config/fish/completions/navvy.fish"
		}
		check := cmd.Args
		if check == nil {
			continue
		}
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return withHint(&usageError{fmt.Errorf("%s: %w", c.CommandPath(), err)}, "see %s --help", c.CommandPath())
			}
			return nil
		}
	}
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: cobra.NoArgs,
		Example: "  navvy version",
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.out, "navvy %s %s %s/%s\n", a.version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
