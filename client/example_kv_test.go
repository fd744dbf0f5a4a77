package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
)

// Many count together: whoever was too late reads again.
func ExampleKV_Put() {
	count := func(ctx context.Context, c *client.Client) error {
		kv := c.KV()
		for {
			v, err := kv.Get(ctx, "counter")
			o := client.PutOptions{IfVersion: v.Version}
			if errors.Is(err, navvy.ErrNotFound) {
				o = client.PutOptions{IfAbsent: true}
			} else if err != nil {
				return err
			}
			n, _ := strconv.Atoi(string(v.Bytes))
			_, err = kv.Put(ctx, "counter", []byte(strconv.Itoa(n+1)), o)
			if !errors.Is(err, navvy.ErrConflict) && !errors.Is(err, navvy.ErrExists) {
				return err
			}
		}
	}
	_ = count // with a client of client.Dial
}

// A copy of some values that is kept up to date, and goes on where it was after the
// connection broke.
func ExampleKV_Watch() {
	follow := func(ctx context.Context, c *client.Client) {
		settings, from := map[string]string{}, uint64(0)
		for changes, err := range c.KV().Watch(ctx, "settings/", from) {
			if err != nil {
				fmt.Println("watch again from", from, "because of", err)
				return
			}
			if changes.Reset {
				clear(settings)
			}
			for _, change := range changes.Changes {
				if change.Deleted {
					delete(settings, change.Key)
				} else {
					settings[change.Key] = string(change.Bytes)
				}
			}
			from = max(from, changes.Through)
		}
	}
	_ = follow
}

// A program that navvy runs as a task keeps where it is, for whoever runs the task again.
func ExampleDialTask() {
	remember := func(ctx context.Context, done string) error {
		conn, err := client.DialTask(ctx, os.Getenv(client.EnvAddr), os.Getenv(client.EnvTaskToken))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = client.New(conn).KV().Put(ctx, "state/"+os.Getenv("NAVVY_INDEX"), []byte(done), client.PutOptions{})
		return err
	}
	_ = remember
}
