package postgres

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/navvy-run/navvy"
)

// settings are what our connections need, whatever the server's, the
// database's or the role's defaults are. Those that a server does not know are
// left out. Keys are found by index: the planner knows nothing about a table
// that was empty a moment ago. A server that cannot reach us any more must let
// the lock go in less than a minute.
var settings = map[string]string{
	"default_transaction_isolation":       "read committed",
	"default_transaction_read_only":       "off",
	"enable_seqscan":                      "off",
	"enable_hashjoin":                     "off",
	"enable_mergejoin":                    "off",
	"jit":                                 "off",
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_session_timeout":                "0",
	"idle_in_transaction_session_timeout": "0",
	"transaction_timeout":                 "0",
	"client_connection_check_interval":    "10s",
	"tcp_keepalives_idle":                 "15",
	"tcp_keepalives_interval":             "5",
	"tcp_keepalives_count":                "3",
	"tcp_user_timeout":                    "30000",
	"client_min_messages":                 "warning",
}

// parse reads the URL. No error shows it: it may hold a password.
func parse(url string, opts *Options) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("postgres: the URL (not shown, it may hold a password) is not of the form "+
			"postgres://user:password@host:port/database?sslmode=…: %w", navvy.ErrInvalid)
	}
	config.MaxConns = int32(opts.Connections)
	config.MinConns = 0
	config.MaxConnIdleTime = 5 * time.Minute
	config.HealthCheckPeriod = time.Hour // an idle store is idle
	config.ConnConfig.ConnectTimeout = 10 * time.Second
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "navvy"
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		// Chunks of logs are made durable by Sync, all that was read is checked.
		return configure(ctx, conn, "off")
	}
	return config, nil
}

// connect opens a connection that lives as long as the store.
func connect(ctx context.Context, config *pgxpool.Config) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig.Copy())
	if err != nil {
		return nil, err
	}
	if err := configure(ctx, conn, "on"); err != nil {
		_ = conn.Close(ctx)
		return nil, err
	}
	return conn, nil
}

// configure makes the settings of a connection; whether its commits wait for
// the disk is one of them. Where a server is set to wait for more, so do we.
func configure(ctx context.Context, conn *pgx.Conn, wait string) error {
	names, values := make([]string, 0, len(settings)), make([]string, 0, len(settings))
	for name, value := range settings {
		names, values = append(names, name), append(values, value)
	}
	_, err := conn.Exec(ctx, `SELECT set_config(s.name, w.value, false) FROM pg_settings AS s
		JOIN unnest($1::text[], $2::text[]) AS w (name, value) ON s.name = w.name AND s.context = 'user'`, names, values)
	if err != nil {
		return err
	}
	if wait == "on" {
		_, err = conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false)
			WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')`)
	} else {
		_, err = conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'off', false)`)
	}
	return err
}

// Place is where Open would open the store, as its Info tells it; no server is asked.
// Its errors are those of Open.
func Place(url string, opts *Options) (string, error) {
	if err := opts.Validate(); err != nil {
		return "", err
	}
	o := opts.defaults()
	config, err := parse(url, &o)
	if err != nil {
		return "", err
	}
	return place(config, o.Schema), nil
}

// place tells people where the store is.
func place(config *pgxpool.Config, schema string) string {
	c := config.ConnConfig
	host := c.Host
	if !strings.HasPrefix(host, "/") {
		host = net.JoinHostPort(host, strconv.Itoa(int(c.Port)))
	}
	return fmt.Sprintf("database %s on %s, schema %s", c.Database, host, schema)
}
