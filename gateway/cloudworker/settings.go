// Package cloudworker reads the settings of the older CloudWorker hosts, so that what
// started one of them starts a worker of navvy unchanged. They are environment variables in
// the manner of .NET: a name's parts have two underscores between them, and case does not
// matter. The queues and messages themselves are those of queue/storagequeue and
// queue/servicebusqueue.
package cloudworker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
)

// Settings are what the environment says of a worker.
type Settings struct {
	Requests, Responses Queue
	// Concurrency is how many requests are worked on at once; 0 if it is not said.
	Concurrency int
	// Service is the value of worker start's --service that the built-in services' own
	// variables stand for; empty if there are none.
	Service string
	// UpTimeout is how long a server that is started may take to come up; 0 if it is not said.
	UpTimeout time.Duration
}

// Queue is one of the two queues.
type Queue struct {
	// URL is one that queue.Open takes; it has no secrets.
	URL string
	// Kind is "servicebus" or "storage".
	Kind string
	// Connection is the connection string, a secret; empty for a managed identity.
	Connection string
	// Lease is how long a request is leased; 0 if it is not said.
	Lease time.Duration
}

// Names of the variables. Those of queues stand for both of them, and behind Request or
// Response for one.
const (
	keyKind       = "QueueType"
	keyConnection = "ConnectionString"
	keyLease      = "MessageLease"
	keyName       = "QueueName"
	keyInterval   = "QueryInterval"
	keyThrottled  = "RetryOnThrottled"
)

// FromEnvironment reads settings from a list of NAME=VALUE. There are none if no variable
// of a queue is among them: ok is false. Errors wrap navvy.ErrInvalid and name the
// variable, never what a connection string says.
func FromEnvironment(environ []string) (s *Settings, ok bool, err error) {
	v := variables{}
	for _, line := range environ {
		if name, value, found := strings.Cut(line, "="); found && value != "" {
			v[strings.ToLower(name)] = value
		}
	}
	if !v.anyQueue() {
		return nil, false, nil
	}
	s = &Settings{}
	if s.Requests, err = v.queue("Request", "requests"); err != nil {
		return nil, false, err
	}
	if s.Responses, err = v.queue("Response", "responses"); err != nil {
		return nil, false, err
	}
	if text, name := v.get("Worker__Concurrency"); text != "" {
		if s.Concurrency, err = strconv.Atoi(text); err != nil || s.Concurrency < 1 {
			return nil, false, invalid(name, text, "want a number from 1")
		}
	}
	if s.UpTimeout, err = v.span("GRPC_ServerUpTimeout"); err != nil {
		return nil, false, err
	}
	if s.Service, err = v.service(); err != nil {
		return nil, false, err
	}
	return s, true, nil
}

// variables are the environment's, by their names in lower case.
type variables map[string]string

// get gives the first variable that is set, and its name as people write it.
func (v variables) get(names ...string) (value, name string) {
	for _, name := range names {
		if value, ok := v[strings.ToLower(name)]; ok {
			return value, name
		}
	}
	return "", names[len(names)-1]
}

func (v variables) anyQueue() bool {
	for name := range v {
		if strings.HasPrefix(name, "queues__") {
			return true
		}
	}
	return false
}

// queue reads the settings of one of the queues.
func (v variables) queue(side, name string) (q Queue, err error) {
	get := func(key string) (string, string) { return v.get("Queues__"+side+"__"+key, "Queues__"+key) }
	kind, variable := get(keyKind)
	q.Kind = strings.ToLower(kind)
	q.Connection, _ = get(keyConnection)
	if own, _ := get(keyName); own != "" {
		name = own
	}
	if q.Lease, err = v.span("Queues__"+side+"__"+keyLease, "Queues__"+keyLease); err != nil {
		return q, err
	}
	if text, variable := get(keyThrottled); text != "" && !strings.EqualFold(text, "true") && !strings.EqualFold(text, "false") {
		return q, invalid(variable, text, "want true or false")
	}
	_, place := get(keyConnection)
	parts := connection(q.Connection)
	switch q.Kind {
	case "servicebus":
		host := strings.TrimSuffix(strings.TrimPrefix(parts["endpoint"], "sb://"), "/")
		if host == "" {
			return q, fmt.Errorf("%s: Endpoint=sb://NAMESPACE/ is missing: %w", place, navvy.ErrInvalid)
		}
		q.URL = "azservicebus://" + host + "/" + name
	case "storage":
		account := parts["accountname"]
		if strings.EqualFold(parts["usedevelopmentstorage"], "true") {
			account = "devstoreaccount1"
		}
		if account == "" {
			return q, fmt.Errorf("%s: AccountName=… is missing: %w", place, navvy.ErrInvalid)
		}
		interval, err := v.span("Queues__"+side+"__"+keyInterval, "Queues__"+keyInterval)
		if err != nil {
			return q, err
		}
		q.URL = "azqueue://" + account + "/" + name
		if interval > 0 {
			q.URL += "?interval=" + interval.String()
		}
	default:
		return q, invalid(variable, kind, "want servicebus or storage")
	}
	return q, nil
}

// connection reads a connection string: NAME=VALUE with semicolons between.
func connection(text string) map[string]string {
	parts := map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		if name, value, ok := strings.Cut(strings.TrimSpace(part), "="); ok {
			parts[strings.ToLower(name)] = value
		}
	}
	return parts
}

// service is what the variables of the built-in services say.
func (v variables) service() (string, error) {
	if command := v.command("CGI_FileName", "CGI_Arguments"); command != "" {
		return "cgi:" + command, nil
	}
	address, name := v.get("GRPC_ServerURL")
	address = strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/")
	command := v.command("GRPC_ServerFileName", "GRPC_ServerArguments")
	switch {
	case address == "" && command != "":
		return "", fmt.Errorf("%s is missing: where the server of GRPC_ServerFileName will listen: %w", name, navvy.ErrInvalid)
	case address == "":
		return "", nil
	case command == "":
		return "grpc-any:" + address, nil
	default:
		return "grpc-any-cmd:" + address + " " + command, nil
	}
}

// command is a program and its arguments; empty if there is none.
func (v variables) command(file, arguments string) string {
	command, _ := v.get(file)
	if more, _ := v.get(arguments); command != "" && more != "" {
		command += " " + more
	}
	return command
}

// span reads a time span of the first variable that is set, as .NET writes them: a number
// of seconds alone is taken, too.
func (v variables) span(names ...string) (time.Duration, error) {
	text, name := v.get(names...)
	if text == "" {
		return 0, nil
	}
	d, err := parseSpan(text)
	if err != nil || d <= 0 {
		return 0, invalid(name, text, "want a time span as 00:01:00 or 60")
	}
	return d, nil
}

func invalid(name, value, want string) error {
	return fmt.Errorf("%s=%s: %s: %w", name, value, want, navvy.ErrInvalid)
}

// parseSpan reads [DAYS.]HOURS:MINUTES:SECONDS[.FRACTION], or seconds.
func parseSpan(text string) (time.Duration, error) {
	parts := strings.Split(text, ":")
	if len(parts) == 1 {
		return seconds(text)
	}
	if len(parts) != 3 {
		return 0, navvy.ErrInvalid
	}
	days, hours, ok := strings.Cut(parts[0], ".")
	if !ok {
		days, hours = "0", parts[0]
	}
	var total time.Duration
	for _, p := range []struct {
		text string
		unit time.Duration
		most uint64
	}{{days, 24 * time.Hour, 10_000}, {hours, time.Hour, 23}, {parts[1], time.Minute, 59}} {
		n, err := strconv.ParseUint(p.text, 10, 32)
		if err != nil || n > p.most {
			return 0, navvy.ErrInvalid
		}
		total += time.Duration(n) * p.unit
	}
	s, err := seconds(parts[2])
	if err != nil || s >= time.Minute {
		return 0, navvy.ErrInvalid
	}
	return total + s, nil
}

func seconds(text string) (time.Duration, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !(f >= 0 && f <= 1e8) { // nor is it NaN
		return 0, navvy.ErrInvalid
	}
	return time.Duration(f * float64(time.Second)), nil
}
