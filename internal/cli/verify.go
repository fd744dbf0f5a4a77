package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

func newVerify(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "check the data directory: every checksum, every record", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return errors.New("verify: unfinished") },
	}
}
