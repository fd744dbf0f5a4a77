// Command asynqpeer is asynq beside navvy's worker without a server (scripts/bench_brokers.py).
//
//	asynqpeer work HOST:PORT   a worker that gives each payload back as its task's result
//	asynqpeer ask HOST:PORT    for each number on standard input so many tasks, and how many
//	                           were answered a second
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

const (
	kind      = "echo"
	queueName = "default"
	workers   = 100 // tasks at once
	senders   = 100 // who send, at once
	page      = 5000
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: asynqpeer work|ask HOST:PORT")
		os.Exit(2)
	}
	do := ask
	if os.Args[1] == "work" {
		do = work
	}
	if err := do(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "asynqpeer:", err)
		os.Exit(1)
	}
}

// work answers tasks until it is told to end.
func work(addr string) error {
	s := asynq.NewServer(asynq.RedisClientOpt{Addr: addr, PoolSize: 2 * workers}, asynq.Config{Concurrency: workers, LogLevel: asynq.WarnLevel})
	return s.Run(asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
		_, err := t.ResultWriter().Write(t.Payload())
		return err
	}))
}

// ask measures, as often as it is told to.
func ask(addr string) error {
	opts := asynq.RedisClientOpt{Addr: addr, PoolSize: 2 * senders}
	client, inspector := asynq.NewClient(opts), asynq.NewInspector(opts)
	plain := redis.NewClient(&redis.Options{Addr: addr})
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		n, err := strconv.Atoi(orders.Text())
		if err != nil {
			return err
		}
		began := time.Now()
		if err := send(client, n); err != nil {
			return err
		}
		if err := collect(plain, inspector, n); err != nil {
			return err
		}
		fmt.Println(float64(n) / time.Since(began).Seconds())
		if _, err := inspector.DeleteAllCompletedTasks(queueName); err != nil {
			return err
		}
	}
	return orders.Err()
}

func send(client *asynq.Client, n int) error {
	var g errgroup.Group
	for s := range senders {
		g.Go(func() error {
			for i := s; i < n; i += senders {
				if _, err := client.Enqueue(asynq.NewTask(kind, payload(i)), asynq.Retention(time.Hour)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func payload(i int) []byte { return fmt.Appendf(nil, "request %d", i) }

// collect waits until all tasks are done, and reads their results. To see that they are it
// asks for no more than how many are.
func collect(plain *redis.Client, inspector *asynq.Inspector, n int) error {
	every := time.NewTicker(5 * time.Millisecond)
	defer every.Stop()
	for {
		done, err := plain.ZCard(context.Background(), "asynq:{"+queueName+"}:completed").Result()
		if err != nil {
			return err
		}
		if done >= int64(n) {
			break
		}
		<-every.C
	}
	answers := map[string]bool{}
	for i := 1; len(answers) < n; i++ {
		tasks, err := inspector.ListCompletedTasks(queueName, asynq.PageSize(page), asynq.Page(i))
		if err != nil {
			return err
		}
		for _, t := range tasks {
			if string(t.Result) != string(t.Payload) {
				return fmt.Errorf("%q was answered with %q", t.Payload, t.Result)
			}
			answers[string(t.Result)] = true
		}
		if len(tasks) < page && len(answers) < n {
			return fmt.Errorf("%d answers of %d", len(answers), n)
		}
	}
	return nil
}
