package work

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// Spec is the work of a queue on the cluster's server, with limits, and a package in place of
// the one that the file names; nil for that. Errors wrap navvy.ErrInvalid and name the key.
func Spec(c *config.Cluster, e *Environment, pkg *navvy.Package, limits navvy.Limits) (*navvy.Spec, error) {
	spec := &navvy.Spec{
		Service: &navvy.Service{Form: c.Service.Form(), Env: e.Pairs, Package: pkg}, Limits: limits,
		Timeout: time.Duration(c.Service.Timeout), Retry: navvy.Retry{Max: max(0, cmp.Or(c.Queue.Attempts, DefaultAttempts)-1)},
	}
	if name := c.Service.Package; name != "" && pkg == nil {
		p, err := navvy.ParsePackage(name)
		if err != nil {
			return nil, fmt.Errorf("service.package: %w", err)
		}
		spec.Service.Package = &p
	}
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("service: %w", err)
	}
	if err := navvy.ValidateQueue(RequestQueue(c)); err != nil {
		return nil, fmt.Errorf("queue.request: %w", err)
	}
	return spec, nil
}

// RequestQueue is the name of the queue of requests.
func RequestQueue(c *config.Cluster) string { return cmp.Or(c.Queue.Request, "requests") }

// ResponseQueue is the name of a broker's queue of answers.
func ResponseQueue(c *config.Cluster) string { return cmp.Or(c.Queue.Response, "responses") }

// DefaultAttempts is how many times a request is delivered if the file does not say.
const DefaultAttempts = 5

// QueueProperties tell of the service of a queue on a server: as it is to be, or as a server
// has it; nil for none.
func QueueProperties(spec *navvy.Spec, plain func(string) bool, salt []byte) driver.Properties {
	p := driver.Properties{"kind": string(config.QueueNavvy), "paused": "no", "service": "", "package": "", "attempts": "", "timeout": "none"}
	if spec == nil || spec.Service == nil {
		return p
	}
	p["service"], p["attempts"] = spec.Service.Form, strconv.Itoa(spec.Retry.Max+1)
	if spec.Service.Package != nil {
		p["package"] = spec.Service.Package.String()
	}
	if spec.Timeout != 0 {
		p["timeout"] = spec.Timeout.String()
	}
	AddEnvironment(p, spec.Service.Env, plain, salt)
	return p
}

// PutQueue gives a server's queue its work, and lets it run.
func PutQueue(ctx context.Context, c *client.Client, name string, spec *navvy.Spec) error {
	change := client.QueueChange{Work: spec, Create: true}
	_, err := c.SetQueue(ctx, name, change)
	if errors.Is(err, navvy.ErrExists) {
		change.Create = false
		_, err = c.SetQueue(ctx, name, change)
	}
	if err != nil {
		return err
	}
	if _, err = c.ResumeQueue(ctx, name); errors.Is(err, navvy.ErrNotFound) {
		err = nil // it was removed by hand just now; the next plan tells
	}
	return err
}

// RemoveQueue removes a server's queue with its settings, and stops what it holds back: who
// removes it was asked. Nil for one that is gone.
func RemoveQueue(ctx context.Context, c *client.Client, name string) error {
	err := c.RemoveQueue(ctx, name)
	if errors.Is(err, navvy.ErrConflict) {
		for job, e := range c.Jobs(ctx) {
			if e != nil {
				return e
			}
			if job.Queue != name || job.Status.State().Final() {
				continue
			}
			if _, e := c.Stop(ctx, job.ID, "its queue was removed with its cluster"); e != nil && !errors.Is(e, navvy.ErrNotFound) {
				return e
			}
		}
		err = c.RemoveQueue(ctx, name)
	}
	if errors.Is(err, navvy.ErrNotFound) {
		return nil
	}
	return err
}

// Unknown is what is lost with what nobody can look at.
const Unknown = "what is in it is not known"

// Holds tells what is lost with a queue; empty for nothing.
func Holds(q *client.Queue) string {
	if q.Waiting+q.Running+q.Answers+q.DeadLetters == 0 {
		return ""
	}
	return Contents(q)
}

// Held tells what is lost with a server that has such queues, by their names; empty for nothing.
func Held(queues map[string]client.Queue) string {
	var all client.Queue
	var names []string
	for _, name := range slices.Sorted(maps.Keys(queues)) {
		q := queues[name]
		if Holds(&q) == "" {
			continue
		}
		names = append(names, name)
		all.Waiting, all.Running = all.Waiting+q.Waiting, all.Running+q.Running
		all.Answers, all.DeadLetters = all.Answers+q.Answers, all.DeadLetters+q.DeadLetters
	}
	if len(names) == 0 {
		return ""
	}
	return Holds(&all) + ", in " + strings.Join(names, ", ")
}

// Contents tells what is in a queue.
func Contents(q *client.Queue) string {
	return fmt.Sprintf("%d wait, %d run, %d answers, %d dead letters", q.Waiting, q.Running, q.Answers, q.DeadLetters)
}
