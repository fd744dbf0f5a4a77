package holder

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/output"
)

// TestClient runs each use of package client in one process and over a real
// socket: the caller must not see which.
func TestClient(t *testing.T) {
	t.Parallel()
	uses := map[string]func(*testing.T, *client.Client){
		"answers": testAnswers, "stream": testStream, "cut": testCut, "abort": testAbort, "refused": testRefused,
		"key": testKey, "keys at once": testKeysAtOnce, "hold": testHold, "leave": testLeave, "stop": testStop, "stop a stream": testStopStream,
		"retry": testRetry, "remove": testRemove, "find": testFind, "pages": testPages, "printed": testPrinted,
		"order": testOrder, "output": testOutput, "live output": testLiveOutput, "task": testTask, "errors": testErrors, "bytes": testBytes,
		"run": testRun, "begin": testBegin, "run key": testRunKey, "run refused": testRunRefused, "run large": testRunLarge, "run ends": testRunEnds,
	}
	for transport, connect := range map[string]func(*testing.T) *client.Client{
		"process": func(t *testing.T) *client.Client {
			h, _ := start(t, testConfig(t))
			return client.New(h.Conn())
		},
		"socket": func(t *testing.T) *client.Client {
			cfg := testConfig(t)
			start(t, cfg)
			return client.New(dial(t, cfg.Dir))
		},
	} {
		for name, use := range uses {
			t.Run(transport+"/"+name, func(t *testing.T) {
				t.Parallel()
				use(t, connect(t))
			})
		}
	}
}

func command(args ...string) navvy.Spec {
	return navvy.Spec{Command: &navvy.Command{Args: args, Dir: "/", Env: []string{"PATH=/bin:/usr/bin"}}}
}

// shell is a command whose script has the input as $1.
func shell(script string) navvy.Spec { return command("/bin/sh", "-c", script, "sh") }

func inputs(list ...string) [][]byte {
	out := make([][]byte, len(list))
	for i, s := range list {
		out[i] = []byte(s)
	}
	return out
}

// attach submits a job and stays with it until the test ends.
func attach(t *testing.T, c *client.Client, job navvy.Job, list ...string) (navvy.JobID, *client.Submission) {
	t.Helper()
	sub, err := c.Submit(t.Context(), job, client.SubmitOptions{Progress: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	if err := errors.Join(sub.Send(inputs(list...)), sub.Seal()); err != nil {
		t.Fatal(err)
	}
	id, existed, err := sub.Accepted(t.Context())
	if err != nil || existed {
		t.Fatalf("existed: %v, %v", existed, err)
	}
	return id, sub
}

// submit submits a job, and stays with it if it is not detached.
func submit(t *testing.T, c *client.Client, job navvy.Job, list ...string) navvy.JobID {
	t.Helper()
	id, _ := attach(t, c, job, list...)
	return id
}

// last is the last status of a sequence.
func last(t *testing.T, seq iter.Seq2[navvy.Status, error]) navvy.Status {
	t.Helper()
	var status navvy.Status
	for st, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		status = st
	}
	return status
}

// awaitStatus watches a job until it stands as wanted.
func awaitStatus(t *testing.T, c *client.Client, id navvy.JobID, wanted func(*navvy.Status) bool) navvy.Status {
	t.Helper()
	for st, err := range c.Watch(t.Context(), id, true) {
		if err != nil {
			t.Fatal(err)
		}
		if wanted(&st) {
			return st
		}
	}
	t.Fatalf("job %s rests, and does not stand as wanted", id)
	return navvy.Status{}
}

// texts are the answers in the order in which they come.
func texts(t *testing.T, c *client.Client, id navvy.JobID, o client.ResultsOptions) []string {
	t.Helper()
	var list []string
	for a, err := range c.Results(t.Context(), id, o) {
		if err != nil {
			t.Fatal(err)
		}
		var streams [3]bytes.Buffer
		var split output.Decoder
		if err := split.Decode(a.Output.Inline, func(s output.Stream, p []byte) error {
			_, err := streams[s].Write(p)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%d %s %s %q %q", a.Task.Index, a.State, a.Input, streams[output.Stdout].String(), streams[output.Stderr].String()))
	}
	return list
}

// read gives all that a task wrote, and how many attempts it saw.
func read(t *testing.T, c *client.Client, task navvy.TaskID, o client.OutputOptions) (stdout, stderr []byte, attempts int) {
	t.Helper()
	var streams [3]bytes.Buffer
	err := c.Output(t.Context(), task, o, client.OutputSink{
		Attempt: func(navvy.AttemptID) error { attempts++; return nil },
		Write: func(s output.Stream, p []byte) error {
			_, err := streams[s].Write(p)
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return streams[output.Stdout].Bytes(), streams[output.Stderr].Bytes(), attempts
}
