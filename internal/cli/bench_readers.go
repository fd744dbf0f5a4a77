package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/output"
)

// readerConns is over how many connections the readers of live output come.
const readerConns = 20

// lineWriter is a task that says when it writes each of 100 lines, 20 a second, once a file is there.
const lineWriter = `echo 0; until test -e "$0"; do sleep 0.05; done
i=0; while test $i -lt 100; do date +%s%N; i=$((i+1)); sleep 0.05; done`

// benchTeamReaders has many clients follow the output of one task, and notes how late
// each line comes to each.
func benchTeamReaders(ctx context.Context, b *bench) (*figure, error) {
	n := b.n
	if n == 0 {
		n = 1000
	}
	return b.with(ctx, 2, func(t *team) (*figure, error) {
		ready, err := filepath.Abs(filepath.Join(b.dir, "ready"))
		if err != nil {
			return nil, err
		}
		id, err := submitAll(ctx, t.c, navvy.Job{Name: "bench", Detached: true, Spec: navvy.Spec{Command: &navvy.Command{
			Args: []string{"/bin/sh", "-c", lineWriter, ready}, Literal: true, Env: []string{"PATH=/usr/bin:/bin"},
		}}}, [][]byte{nil})
		if err != nil {
			return nil, err
		}
		late, err := t.follow(ctx, navvy.TaskID{Job: id}, n, ready)
		if err != nil {
			return nil, err
		}
		slices.Sort(late)
		p99 := late[len(late)*99/100]
		f := &figure{goal: "p99 at most 100 ms", ok: p99 <= 100*time.Millisecond}
		f.add("readers", float64(n), fmt.Sprint(n))
		f.addTime("line_p50", late[len(late)/2])
		f.addTime("line_p99", p99)
		return f, nil
	})
}

// follow reads the output of a lineWriter n times at once, and gives how late each line
// came to each reader.
func (t *team) follow(ctx context.Context, task navvy.TaskID, n int, ready string) ([]time.Duration, error) {
	g, ctx := errgroup.WithContext(ctx)
	var begun sync.WaitGroup
	readers := make([]lineReader, n)
	var c *client.Client
	for i := range readers {
		if i%max(1, n/readerConns) == 0 {
			conn, err := t.dial(ctx)
			if err != nil {
				return nil, err
			}
			defer conn.Close()
			c = client.New(conn)
		}
		r, from := &readers[i], c
		r.began = sync.OnceFunc(begun.Done)
		begun.Add(1)
		g.Go(func() error {
			defer r.began()
			return from.Output(ctx, task, client.OutputOptions{Follow: true}, client.OutputSink{Write: r.write})
		})
	}
	begun.Wait()
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		return nil, err
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var late []time.Duration
	for i := range readers {
		late = append(late, readers[i].late...)
	}
	if len(late) == 0 || len(late)%n != 0 {
		return nil, errors.New("some readers have not got all lines")
	}
	return late, nil
}

// lineReader notes how late lines come.
type lineReader struct {
	began func() // called with the first line, which does not count
	rest  []byte
	late  []time.Duration
}

func (r *lineReader) write(_ output.Stream, p []byte) error {
	now := time.Now().UnixNano()
	r.rest = append(r.rest, p...)
	for {
		line, rest, ok := bytes.Cut(r.rest, []byte("\n"))
		if !ok {
			return nil
		}
		r.rest = rest
		r.began()
		ns, err := strconv.ParseInt(string(line), 10, 64)
		if err != nil {
			return err
		}
		if ns > 0 {
			r.late = append(r.late, time.Duration(now-ns))
		}
	}
}
