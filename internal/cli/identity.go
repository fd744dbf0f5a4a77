package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/holder"
)

// withServer calls fn with a client of a server: the one that is named, else the one
// that holds the data directory of this machine's server, over its socket, as an admin.
func (a *app) withServer(ctx context.Context, fn func(*client.Client, *target) error) error {
	t, err := a.target()
	if err != nil {
		return err
	}
	if t != nil {
		c, err := a.connectServer(ctx, t, needLook)
		if err != nil {
			return err
		}
		err = fn(c.Client, t)
		if errors.Is(err, navvy.ErrDenied) {
			err = withHint(err, "that is for administrators: on the server's machine give --data, its data directory; else --cert and --key of one")
		}
		return errors.Join(err, c.close(ctx))
	}
	path, err := a.serverData()
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return noServer(path)
	}
	dir, err := holder.OpenDir(path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	conn, err := dir.Dial(ctx)
	if err != nil {
		return noServer(path)
	}
	return errors.Join(fn(client.New(conn), nil), conn.Close())
}

func noServer(path string) error {
	return withHint(fmt.Errorf("no navvy server runs on %s: %w", path, navvy.ErrUnavailable), "give its data directory with --data, or name a server with --server")
}

// serverData is the data directory of this machine's server.
func (a *app) serverData() (string, error) {
	if path := cmp.Or(a.data, a.env("NAVVY_DATA")); path != "" {
		return filepath.Clean(path), nil
	}
	return a.stateDir(serverDir)
}
