package client_test

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"
	"strconv"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/server/auth"
)

// A program on another machine than the server: it connects with the three files that
// navvy cert issue has written, runs a command over inputs, and prints the answers.
func Example() {
	ctx := context.Background()
	pair, err := auth.LoadPair(filepath.Join(certs, "ann.crt"), filepath.Join(certs, "ann.key"))
	if err != nil {
		panic(err)
	}
	pool, err := auth.LoadPool(filepath.Join(certs, "ca.crt"))
	if err != nil {
		panic(err)
	}
	conn, me, err := client.Dial(ctx, address, auth.ClientTLS(auth.Fixed(pair), pool))
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Println("I am", me.Name)

	c := client.New(conn)
	hello := navvy.Job{Spec: navvy.Spec{Command: &navvy.Command{Args: []string{"echo", "hello {}"}}}}
	for answer, err := range c.Map(ctx, hello, words("bob", "cid"), client.MapOptions{}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		text, err := c.Read(ctx, &answer, output.Stdout)
		fmt.Printf("%s: %s%v\n", answer.State, text, err)
	}
	// Output:
	// I am ann
	// succeeded: hello bob
	// <nil>
	// succeeded: hello cid
	// <nil>
}

// words are inputs.
func words(list ...string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, w := range list {
			if !yield([]byte(w)) {
				return
			}
		}
	}
}

// Inputs come from an iterator while answers are read from another one: neither is
// ever in memory as a whole. Here the first answers end a sequence that has no end.
func ExampleClient_Map() {
	ctx := context.Background()
	c, done := dial(ctx)
	defer done()
	numbers := func(yield func([]byte) bool) {
		for n := 1; yield([]byte(strconv.Itoa(n))); n++ {
		}
	}
	square := navvy.Job{Name: "squares", Spec: navvy.Spec{Command: &navvy.Command{Args: []string{"sh", "-c", "echo $(({} * {}))"}}}}
	for answer, err := range c.Map(ctx, square, numbers, client.MapOptions{Inputs: true}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		text, err := c.Read(ctx, &answer, output.Stdout)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s² = %s", answer.Input, text)
		if answer.Task.Index == 3 {
			break // stops the job
		}
	}
	// Output:
	// 1² = 1
	// 2² = 4
	// 3² = 9
	// 4² = 16
}

// A job is submitted and left alone. Its id is all that has to be kept, to come back
// to it from anywhere; with the idempotency key it is submitted once, however often
// this runs.
func ExampleClient_Start() {
	ctx := context.Background()
	c, done := dial(ctx)
	defer done()
	job := navvy.Job{
		Name: "nightly", IdempotencyKey: "nightly of 22 November",
		Spec: navvy.Spec{Command: &navvy.Command{Args: []string{"echo", "{}"}}, Retry: navvy.Retry{Max: 2}},
	}
	id, err := c.Start(ctx, job, words("a", "b", "c"))
	if err != nil {
		fmt.Println(err)
		return
	}
	again, err := c.Start(ctx, job, words("a", "b", "c"))
	fmt.Println(id == again, err)
	// Output: true <nil>
}

// Wait returns when a job has ended, whoever has submitted it and from where.
func ExampleClient_Wait() {
	ctx := context.Background()
	c, done := dial(ctx)
	defer done()
	id, err := c.Start(ctx, navvy.Job{Spec: navvy.Spec{Command: &navvy.Command{Args: []string{"test", "{}", "!=", "bad"}}}}, words("good", "bad", "fine"))
	if err != nil {
		fmt.Println(err)
		return
	}
	status, err := c.Wait(ctx, id)
	fmt.Println(status.State(), status.Counts.Succeeded, status.Counts.Failed, err)
	for answer, err := range c.Results(ctx, id, client.ResultsOptions{Failed: true, Inputs: true}) {
		fmt.Printf("%s: exit code %d, %v\n", answer.Input, answer.Exit.Code, err)
	}
	// Output:
	// failed 2 1 <nil>
	// bad: exit code 1, <nil>
}

// What a task writes comes while it runs.
func ExampleClient_Chunks() {
	ctx := context.Background()
	c, done := dial(ctx)
	defer done()
	id, err := c.Start(ctx, navvy.Job{Spec: navvy.Spec{Command: &navvy.Command{Args: []string{"sh", "-c", "echo one; echo two; echo oh >&2"}}}}, words(""))
	if err != nil {
		fmt.Println(err)
		return
	}
	var streams [3][]byte
	for chunk, err := range c.Chunks(ctx, navvy.TaskID{Job: id}, client.OutputOptions{Follow: true}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		streams[chunk.Stream] = append(streams[chunk.Stream], chunk.Bytes...) // or print it at once
	}
	fmt.Printf("%q, and to standard error %q\n", streams[output.Stdout], streams[output.Stderr])
	// Output: "one\ntwo\n", and to standard error "oh\n"
}

// Stop ends a job; what it has answered stays.
func ExampleClient_Stop() {
	ctx := context.Background()
	c, done := dial(ctx)
	defer done()
	id, err := c.Start(ctx, navvy.Job{Spec: navvy.Spec{Command: &navvy.Command{Args: []string{"sleep", "{}"}}}}, words("3600", "3600", "3600"))
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := c.Stop(ctx, id, "it is late"); err != nil {
		fmt.Println(err)
		return
	}
	status, err := c.Wait(ctx, id)
	fmt.Println(status.State(), status.Why, err)
	// Output: stopped it is late <nil>
}
