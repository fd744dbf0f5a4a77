package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/manager"
)

// maxOffered is how many words a completion offers at most.
const maxOffered = 50

// ways completes --dispatch of a verb with the ways there are, and others.
func ways(cmd *cobra.Command, others ...string) {
	all := append([]string{string(manager.Pull), string(manager.Push), string(manager.RoundRobin)}, others...)
	_ = cmd.RegisterFlagCompletionFunc("dispatch", cobra.FixedCompletions(all, cobra.ShellCompDirectiveNoFileComp))
}

// completeTarget completes what can be chosen to speak with: contexts, and no server.
func (a *app) completeTarget(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	names, directive := a.completeContexts(cmd, args, prefix)
	return append(names, localContext), directive
}

// completeQueues completes names of queues that have settings or jobs.
func (a *app) completeQueues(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var names []string
	err := a.with(cmd.Context(), needLook, func(c *conn) error {
		for q, err := range c.Queues(cmd.Context()) {
			if err != nil {
				return err
			}
			if strings.HasPrefix(q.Name, prefix) {
				names = append(names, q.Name)
			}
			if len(names) == maxOffered {
				break
			}
		}
		return nil
	})
	return offered(names, err)
}

// completeWorkers completes names of workers, with their states.
func (a *app) completeWorkers(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var names []string
	err := a.withServer(cmd.Context(), func(c *client.Client, _ *target) error {
		list, err := c.Fleet(cmd.Context())
		for i := range list {
			if len(names) < maxOffered && strings.HasPrefix(list[i].Name, prefix) {
				names = append(names, list[i].Name+"\t"+list[i].State)
			}
		}
		return err
	})
	return offered(names, err)
}

// offered is what a completion gives that has asked somebody.
func offered(names []string, err error) ([]string, cobra.ShellCompDirective) {
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
