package mstc

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/client"
)

// States of a reply beside those of a task that has ended.
const (
	stateInvalid = "invalid" // the request is none
	stateRefused = "refused" // navvy has not taken it
)

// reply is what a client is told.
type reply struct {
	Result string `json:"result"`
	State  string `json:"state"`
	// Reason is why it failed, in one word: exit, signal, oom, timeout, image and so on.
	Reason string `json:"reason,omitempty"`
	// ExitCode is the program's, as a shell has it; nil if none has ended.
	ExitCode *int `json:"exitCode,omitempty"`
}

func (r *reply) ok() bool { return r.State == navvy.Succeeded.String() }

// body is the message.
func (r *reply) body() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	return b
}

// without is the reply with the first line of its result, and why there is no more.
func (r *reply) without(why string) *reply {
	out := *r
	line, _, _ := strings.Cut(r.Result, "\n")
	out.Result = echo([]byte(line)) + "\n[" + why + "]"
	return &out
}

// refusedAs is the answer to a request that is none.
func refusedAs(bad error, body []byte) *reply {
	return &reply{Result: fmt.Sprintf("Invalid request %s: %s", bad, echo(body)), State: stateInvalid}
}

// trouble is the answer to a request that navvy does not take, or can say no more about.
func trouble(err error) *reply {
	return &reply{Result: api.ErrorCode(err) + ": " + words(err), State: stateRefused}
}

// The words of the second generation. Clients take the second one as the name of the job.
func saidComplete(name string) string    { return "Job " + name + " complete." }
func saidFailed(name, why string) string { return "Job " + name + " failed: " + why }
func saidTimeout(name string, n int64) string {
	return fmt.Sprintf("Job %s timed out after %d minutes", name, n)
}

// replyTo is the answer to a request whose task has ended, less the log.
func (r *request) reply(a *client.Answer) *reply {
	// A request is never tried again by itself: before its result no attempt has failed.
	name := r.container().JobName(a.Task, int(a.Round), 0)
	out := &reply{State: a.State.String(), Reason: string(a.Reason)}
	switch {
	case a.State == navvy.Succeeded:
		out.Result, out.ExitCode = saidComplete(name), new(a.Exit.ShellCode())
	case a.Reason == navvy.ReasonTimeout:
		out.Result = saidTimeout(name, r.Minutes)
	default:
		why := a.Message
		if why == "" {
			why = string(a.Reason)
		}
		out.Result = saidFailed(name, why)
	}
	if ran := a.Reason == navvy.ReasonExit || a.Reason == navvy.ReasonSignal || a.Reason == navvy.ReasonOOM; ran && a.Exit != (navvy.Exit{}) {
		out.ExitCode = new(a.Exit.ShellCode())
	}
	return out
}

// replyStopped is the answer to a request whose job somebody has stopped, or removed.
func (r *request) replyStopped(id navvy.JobID, why string) *reply {
	return &reply{
		Result: saidFailed(r.container().JobName(navvy.TaskID{Job: id}, 0, 0), why),
		State:  navvy.Stopped.String(), Reason: string(navvy.ReasonStopped),
	}
}
