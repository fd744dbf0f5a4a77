package cli

import (
	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy/internal/holder"
)

// newClusterPipe is the hidden verb with which a cluster's server on Kubernetes is reached: it
// passes on what goes in and out, and runs in the server's pod.
func newClusterPipe(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "pipe", Hidden: true, Args: cobra.NoArgs,
		Short: "pass on what goes in and out to the server of the data directory",
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := a.dataPath()
			if err != nil {
				return err
			}
			dir, err := holder.OpenDir(path)
			if err != nil {
				return err
			}
			return dir.Pipe(cmd.Context(), a.in, a.out)
		},
	}
}
