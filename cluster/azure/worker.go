package azure

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/quantity"
)

// variable is one of a container's environment: it has a value, or a secret.
type variable struct{ Name, Value, Secret string }

// MarshalJSON writes it as Azure has it: a value is there also if it is empty.
func (v variable) MarshalJSON() ([]byte, error) {
	if v.Secret != "" {
		return json.Marshal(map[string]string{"name": v.Name, "secureValue": v.Secret})
	}
	return json.Marshal(map[string]string{"name": v.Name, "value": v.Value})
}

// Variables of a worker that we give it.
const (
	varRequests  = "NAVVY_REQUESTS"
	varResponses = "NAVVY_RESPONSES"
	varContent   = "NAVVY_SHARES" // what was uploaded: a container is started anew when it changes
	varBus       = "AZURE_SERVICEBUS_CONNECTION_STRING"
	varStorage   = "AZURE_STORAGE_CONNECTION_STRING"
	varInsights  = "APPLICATIONINSIGHTS_CONNECTION_STRING"
)

// given is of a worker that has a secret which Azure puts there.
const given = "true"

// program is where navvy is in its image, and in those that are made from it.
const program = "/navvy"

// workers compiles the container groups: one for each, alike but for their names.
func (k *compilation) workers() error {
	w := k.c.Workers
	open, secret, err := k.environment()
	if err != nil {
		return err
	}
	cpus, memory, err := size(w)
	if err != nil {
		return err
	}
	command := k.command()
	text, err := json.Marshal(command)
	if err != nil {
		return err
	}
	beside, collector := k.collector()
	properties := driver.Properties{"image": w.Image, "cpus": cpus, "memory": memory, "command": string(text), "collector": collector}
	digest := k.secrets(secret)
	properties["mounts"], properties["secrets"] = toldMounts(k.mounts), digest
	properties["labels"], properties["insights"] = told(labels(w.Labels)), ""
	if watched(k.c) {
		properties["insights"] = given
	}
	parameters := k.workerParameters(secret)
	for i := range w.Count {
		name := k.names.worker(i + 1)
		own, mine, environment := maps.Clone(parameters), maps.Clone(properties), append(slices.Clone(open), k.traced(name)...)
		own["name"], mine["environment"] = name, told(environment)
		own["containers"] = append([]container{{
			Name: "worker", Image: w.Image, Command: command, CPUs: cpus, Memory: memory,
			Environment: environment, Mounts: volumeMounts(k.mounts),
		}}, beside...)
		s := k.add(kindWorker, name, "providers/"+typeGroup+"/"+name, "worker", mine, own)
		if _, kind, queues := k.broker(); kind != "" {
			s.queues = "providers/" + kind + "/" + queues
		}
		for label, value := range w.Labels {
			s.tags[tagLabel+label] = value
		}
		if digest != "" {
			s.tags[tagSecrets] = digest
		}
	}
	return nil
}

// told are variables, as a property has them: in order, in one text, so that one that is
// missing and one that is too many are both seen.
func told(all []variable) string {
	words := make([]string, len(all))
	for i, v := range all {
		value := v.Value
		if value == "" || strings.ContainsAny(value, " \t\n\r\"'") {
			value = strconv.Quote(value)
		}
		words[i] = v.Name + "=" + value
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func toldMounts(all []mount) string {
	words := make([]string, len(all))
	for i, m := range all {
		words[i] = m.Path + "=" + m.Account + "/" + m.Share
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func labels(all map[string]string) []variable {
	list := make([]variable, 0, len(all))
	for name, value := range all {
		list = append(list, variable{Name: name, Value: value})
	}
	return list
}

// secrets is what can be told of the secrets of a worker.
func (k *compilation) secrets(secret []variable) string {
	if len(secret) == 0 && len(k.keys) == 0 {
		return ""
	}
	var all strings.Builder
	for _, v := range secret {
		fmt.Fprintf(&all, "%q=%q\n", v.Name, v.Secret)
	}
	for _, name := range sortedKeys(k.keys) {
		fmt.Fprintf(&all, "key of %q=%q\n", name, k.keys[name])
	}
	return driver.Secret(k.salt, []byte(all.String()))
}

// broker is in what the queues of workers are that get keys of it: how the template calls it, its
// type and name. Others need none.
func (k *compilation) broker() (called, kind, name string) {
	if k.c.Queue.URL == nil {
		switch k.c.Queue.Kind {
		case config.QueueServiceBus:
			return "servicebus", typeNamespace, k.names.namespace()
		case config.QueueStorage:
			return "storage", typeAccount, k.names.account()
		case config.QueueNavvy, config.QueueNATS, config.QueueRabbitMQ, config.QueueRedis:
		}
	}
	return "other", "", ""
}

func (k *compilation) workerParameters(secret []variable) map[string]any {
	broker, _, queues := k.broker()
	p := map[string]any{
		"mounts": append([]mount{}, k.mounts...), "rule": workerRule,
		"secrets": map[string]any{"variables": secret, "keys": k.keys},
		"broker":  broker, "queues": queues, "insights": "", "workspace": "",
	}
	if watched(k.c) {
		p["insights"], p["workspace"] = k.names.insights(), k.names.workspace()
	}
	return p
}

// environment is that of a worker, in order: what stands in the file, and what comes from
// elsewhere, which is secret.
func (k *compilation) environment() (open, secret []variable, err error) {
	open, secret = []variable{}, []variable{}
	for _, name := range sortedKeys(k.c.Workers.Environment) {
		v := k.c.Workers.Environment[name]
		text, err := v.Resolve(k.d.o.Getenv, k.c.Dir)
		if err != nil {
			return nil, nil, fmt.Errorf("azure: workers.environment.%s: %w", name, err)
		}
		if v.Plain() {
			open = append(open, variable{Name: name, Value: text})
		} else {
			secret = append(secret, variable{Name: name, Secret: text})
		}
	}
	if len(k.content) > 0 {
		open = append(open, variable{Name: varContent, Value: hash(strings.Join(k.content, "\n"))})
	}
	more, hidden, err := k.places()
	return append(open, more...), append(secret, hidden...), err
}

// places are the variables that say where the queues are.
func (k *compilation) places() (open, secret []variable, err error) {
	q := k.c.Queue
	scheme, connection := "", ""
	switch q.Kind {
	case config.QueueServiceBus:
		scheme, connection = "azservicebus://", varBus
	case config.QueueStorage:
		scheme, connection = "azqueue://", varStorage
	case config.QueueNavvy, config.QueueNATS, config.QueueRabbitMQ, config.QueueRedis:
	}
	if q.URL != nil {
		text, err := q.URL.Resolve(k.d.o.Getenv, k.c.Dir)
		if err != nil {
			return nil, nil, fmt.Errorf("azure: queue.url: %w", err)
		}
		if connection == "" || strings.HasPrefix(text, scheme) {
			return nil, []variable{
				{Name: varRequests, Secret: below(text, q.Request)}, {Name: varResponses, Secret: below(text, q.Response)},
			}, nil
		}
		secret = []variable{{Name: connection, Secret: text}}
	}
	return []variable{{Name: varRequests, Value: scheme + "/" + q.Request}, {Name: varResponses, Value: scheme + "/" + q.Response}}, secret, nil
}

// below is the URL of a queue of a broker's.
func below(broker, queue string) string {
	u, err := url.Parse(broker)
	if err != nil { // who opens it says so, and does not repeat it
		return broker
	}
	return u.JoinPath(url.PathEscape(queue)).String()
}

// command is what a worker runs.
func (k *compilation) command() []string {
	c := k.c
	command := []string{program, "worker", "start", "--service", c.Service.Form(), "-j", strconv.Itoa(cmp.Or(c.Workers.Concurrency, 1)),
		"--lease", span(lease(c)), "--attempts", strconv.Itoa(attempts(c))}
	if c.Service.Timeout > 0 {
		command = append(command, "--timeout", span(time.Duration(c.Service.Timeout)))
	}
	if c.Queue.URL == nil {
		command = append(command, "--must-exist")
	}
	return command
}

// size is what a worker has, as Azure counts it: cores, and GiB in tenths.
func size(w config.Workers) (cpus, memory string, err error) {
	thousandths, err := quantity.ParseCPUs(cmp.Or(w.CPUs, "1"))
	if err != nil || thousandths < 10 {
		return "", "", invalid("workers.cpus is %q: want a number of cores from 0.01, such as 1 or 0.5", w.CPUs)
	}
	bytes, err := quantity.ParseSize(cmp.Or(w.Memory, "1.5G"))
	if err != nil {
		return "", "", invalid("workers.memory: %v", err)
	}
	const gib = 1 << 30
	tenths := bytes/gib*10 + (bytes%gib*10+gib-1)/gib
	if tenths < 1 || tenths > 10000 {
		return "", "", invalid("workers.memory is %q: want from 0.1G to 1000G", w.Memory)
	}
	return quantity.CPUs(thousandths), strconv.FormatFloat(float64(tenths)/10, 'f', -1, 64), nil
}
