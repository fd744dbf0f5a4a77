package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/pause"
)

// attachFlags are those of queue create and set that attach a queue to a broker's.
type attachFlags struct {
	requests, requestsFile   string
	responses, responsesFile string
	concurrency              int
	lease                    string
}

// detached is what --requests says to detach a queue.
const detached = "none"

func (f *attachFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.requests, "requests", "", "answer the requests of this queue of a broker's: its `URL` (docs/brokers.md); none for no longer")
	fs.StringVar(&f.requestsFile, "requests-file", "", "a `FILE` with that URL, which keeps a password out of the arguments; - for standard input")
	fs.StringVar(&f.responses, "responses", "", "send the answers to this one: its `URL`")
	fs.StringVar(&f.responsesFile, "responses-file", "", "a `FILE` with that URL")
	fs.IntVar(&f.concurrency, "requests-taken", 0, "so many requests are taken from the broker before they are answered (default 100)")
	fs.StringVar(&f.lease, "lease", "", "how long a request stays taken without a sign of life (default 1m)")
}

// change is what the flags ask for; nil for nothing.
func (f *attachFlags) change(a *app, flags *pflag.FlagSet) (*navvy.Broker, error) {
	given := false
	for _, name := range []string{"requests", "requests-file", "responses", "responses-file", "requests-taken", "lease"} {
		given = given || flags.Changed(name)
	}
	switch {
	case !given:
		return nil, nil //nolint:nilnil // nothing is asked for
	case f.requests == detached:
		return &navvy.Broker{}, nil
	}
	lease, err := durationFlag("lease", f.lease)
	if err != nil {
		return nil, err
	}
	b := &navvy.Broker{Concurrency: f.concurrency, Lease: lease}
	if b.Requests, err = a.brokerURL("requests", f.requests, f.requestsFile); err != nil {
		return nil, err
	}
	b.Responses, err = a.brokerURL("responses", f.responses, f.responsesFile)
	return b, err
}

// brokerURL is the URL of a flag or of its file.
func (a *app) brokerURL(name, flag, file string) (string, error) {
	text, err := a.urlFlag(name, flag, file, "")
	if err == nil && text == "" {
		err = usagef("--%s or --%s-file is missing: a queue is attached to two of a broker's, one of requests and one of responses", name, name)
	}
	return text, err
}

// urlFlag is the URL of a flag that has no password in it, or of a file; empty if neither
// is given. instead is what may be done beside giving a file.
func (a *app) urlFlag(name, flag, file, instead string) (string, error) {
	switch {
	case flag != "" && file != "":
		return "", usagef("--%s and --%s-file: give one of them", name, name)
	case file != "":
		text, err := a.smallFile(file)
		if err != nil {
			return "", &usageError{fmt.Errorf("--%s-file: %w", name, err)}
		}
		return strings.TrimSpace(text), nil
	}
	if u, err := url.Parse(flag); err == nil && u.User != nil {
		if _, secret := u.User.Password(); secret {
			return "", usagef("--%s: everybody on this machine can see a password in an argument: put the URL into a file and give --%s-file%s", name, name, instead)
		}
	}
	return flag, nil
}

// brokerObject is what a queue is attached to, for programs.
type brokerObject struct {
	Requests  string  `json:"requests"`
	Responses string  `json:"responses"`
	Taken     int     `json:"requests_taken"` // at most, before they are answered
	Lease     float64 `json:"lease"`          // in seconds
	Owner     string  `json:"owner"`
	Trouble   string  `json:"trouble"` // empty if all is well
}

func brokerOf(q *client.Queue) *brokerObject {
	b := q.Settings.Broker
	if b == nil {
		return nil
	}
	return &brokerObject{
		Requests: b.Requests, Responses: b.Responses, Taken: cmp.Or(b.Concurrency, navvy.DefaultBrokerConcurrency),
		Lease: cmp.Or(b.Lease, navvy.DefaultBrokerLease).Seconds(), Owner: q.BrokerOwner, Trouble: q.BrokerTrouble,
	}
}

const (
	// attachTime is how long the broker may take to say whether it lets the server in.
	attachTime  = 10 * time.Second
	attachLooks = 100 * time.Millisecond
)

// tellAttached says how it goes with the broker's queues that a queue was just attached to.
// Whatever comes of it, the setting stays, and the server tries again for ever.
func (a *app) tellAttached(ctx context.Context, c *conn, q *client.Queue) error {
	trouble := q.BrokerTrouble
	for began := time.Now(); trouble == client.BrokerConnecting && time.Since(began) < attachTime; {
		if err := pause.For(ctx, attachLooks); err != nil {
			return err
		}
		for now, err := range c.Queues(ctx) {
			if err != nil {
				return err
			}
			if now.Name == q.Name {
				trouble = now.BrokerTrouble
			}
		}
	}
	if trouble == "" {
		a.say("queue %s answers the requests of %s", q.Name, q.Settings.Broker.Requests)
		return nil
	}
	a.say("queue %[1]s is attached to %[2]s, but nothing comes from there: %[3]s", q.Name, q.Settings.Broker.Requests, trouble)
	a.say("the setting is kept and the server tries again: navvy queue show %[1]s tells how it goes, navvy queue set %[1]s --requests URL --responses URL changes it, --requests none takes it away", q.Name)
	return nil
}
