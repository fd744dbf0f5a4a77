package cli

import (
	"cmp"
	"fmt"
	"log/slog"
	"os/signal"
	"os/user"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/ssh"
)

// openSSH opens the provider of clusters whose workers are on hosts that are reached by ssh.
// Each has so many slots; empty for what the file says.
func (a *app) openSSH(slots string) (*ssh.Driver, error) {
	o, err := a.localOptions()
	if err != nil {
		return nil, err
	}
	me, home := a.env("USER"), a.env("HOME")
	if u, err := user.Current(); err == nil {
		me, home = u.Username, cmp.Or(home, u.HomeDir)
	}
	if home == "" {
		return nil, withHint(fmt.Errorf("it is not known where your keys for ssh are: HOME is not set: %w", navvy.ErrInvalid), "set HOME")
	}
	return ssh.New(ssh.Options{
		Slots: slots, Local: *o, User: me, Home: home, Agent: a.env("SSH_AUTH_SOCK"), Tunnel: []string{o.Navvy, "cluster", "tunnel"},
	}), nil
}

// newClusterTunnel is the hidden verb of the process that keeps tunnels to hosts open.
func newClusterTunnel(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "tunnel DIR", Hidden: true, Args: cobra.ExactArgs(1),
		Short: "keep the tunnels open that the table of a directory tells of",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return ssh.RunTunnels(ctx, args[0], &ssh.TunnelOptions{Logger: slog.New(slog.NewTextHandler(a.err, nil))})
		},
	}
}
