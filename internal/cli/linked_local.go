package cli

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy/cluster/local"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/queue"
)

// openLocal opens the provider of clusters on this machine.
func (a *app) openLocal() (*local.Driver, error) {
	o, err := a.localOptions()
	if err != nil {
		return nil, err
	}
	return local.New(*o), nil
}

// localOptions are what providers want to know that have a server on this machine.
func (a *app) localOptions() (*local.Options, error) {
	state, err := a.statePath()
	if err != nil {
		return nil, err
	}
	command, err := superviseCommand()
	if err != nil {
		return nil, err
	}
	environ := outside(a.environ())
	systemd := &unit.SystemdOptions{RuntimeDir: a.env("XDG_RUNTIME_DIR"), Env: environ}
	if config, err := a.configDir(); err == nil { // without a place for it there is no systemd of the user's
		systemd.ConfigDir = filepath.Dir(config)
	}
	return &local.Options{
		State: state, Navvy: command[0], Supervise: command, Environ: environ, Systemd: systemd,
		Dial: func(ctx context.Context, data string) (*grpc.ClientConn, error) {
			dir, err := holder.OpenDir(data)
			if err != nil {
				return nil, err
			}
			return dir.Dial(ctx)
		},
		CheckQueue:   a.checkBrokerQueue,
		OpenQueue:    a.openBrokerQueue,
		CheckService: checkService,
	}, nil
}

// checkBrokerQueue refuses the URL of a broker's queue that is wrong.
func (a *app) checkBrokerQueue(url, connection string) error {
	drivers := a.brokers(connection)
	delete(drivers, "mem") // which nobody else reaches
	return queue.Check(url, drivers)
}

// openBrokerQueue makes a broker's queue, unless it is there, and lets go of it.
func (a *app) openBrokerQueue(ctx context.Context, url, connection string, mustExist bool) error {
	const bound = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	q, err := queue.Open(ctx, url, a.brokers(connection), &queue.Options{MustExist: mustExist, Logger: a.logger()})
	if err != nil {
		return err
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	return errors.Join(err, q.Close(closing))
}
