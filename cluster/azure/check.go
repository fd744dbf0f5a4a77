package azure

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/navvy-run/navvy/cluster/config"
)

// check refuses what cannot be had on Azure, before anybody is called.
func (d *Driver) check(c *config.Cluster) error {
	for _, check := range []func(*config.Cluster) error{d.checkPlace, checkCompute, checkQueue, checkShares, checkService, checkWorkers, checkTags} {
		if err := check(c); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) checkPlace(c *config.Cluster) error {
	switch {
	case c.Name == "":
		return invalid("name is missing")
	case c.Azure == nil:
		return invalid("azure is missing: want subscription and location below it")
	case !strings.EqualFold(c.Azure.Subscription, d.subscription):
		return invalid("azure.subscription is %q, and this is the driver of %s", c.Azure.Subscription, d.subscription)
	case !locationRule.MatchString(c.Azure.Location):
		return invalid("azure.location is %q: want one such as westeurope, as az account list-locations prints them", c.Azure.Location)
	case !groupRule.MatchString(groupName(c)):
		return invalid("azure.resource_group is %q: want up to 90 letters, digits and - _ . ( ), and no . at the end", groupName(c))
	}
	return nil
}

func checkCompute(c *config.Cluster) error {
	switch c.Azure.Compute {
	case "", config.ComputeACI, config.ComputeAKS:
		return nil
	}
	return invalid("azure.compute is %q: want aci or aks", c.Azure.Compute)
}

// ruleOf is what Azure wants of a queue of a kind.
type ruleOf struct {
	skus []string
	name *regexp.Regexp
	want string
}

var queueRules = map[config.QueueKind]ruleOf{
	config.QueueServiceBus: {
		[]string{"Basic", "Standard", "Premium"}, busRule, "at most 260 letters, digits and . - _, with a letter or digit at both ends",
	},
	config.QueueStorage: {
		[]string{"Standard_LRS", "Standard_GRS", "Standard_RAGRS", "Standard_ZRS", "Standard_GZRS", "Standard_RAGZRS"},
		accountRule, "3 to 58 small letters, digits and single -",
	},
}

func checkQueue(c *config.Cluster) error {
	q := c.Queue
	if q.Request == "" || q.Response == "" || q.Request == q.Response {
		return invalid("queue.request is %q and queue.response %q: want two names", q.Request, q.Response)
	}
	if q.URL != nil && q.SKU != "" {
		return invalid("queue.sku is for queues that are made, and queue.url names those of others: leave one out")
	}
	switch q.Kind {
	case config.QueueNavvy:
		return unsupported("queue.kind is navvy: workers on Azure have no server. Use servicebus or storage, or a broker that they reach, with queue.url")
	case config.QueueNATS, config.QueueRabbitMQ, config.QueueRedis:
		if q.URL == nil {
			return invalid("queue.url is missing: on Azure, %s is a broker that is there already", q.Kind)
		}
		return nil
	case config.QueueServiceBus, config.QueueStorage:
		return checkMade(c)
	}
	return invalid("queue.kind is %q: want servicebus or storage", q.Kind)
}

// checkMade holds queues of Azure against its rules.
func checkMade(c *config.Cluster) error {
	q, rule := c.Queue, queueRules[c.Queue.Kind]
	if l := lease(c); q.Kind == config.QueueServiceBus && (l < 5*time.Second || l > 5*time.Minute || l%time.Second != 0) {
		return invalid("queue.lease is %s: Service Bus wants whole seconds from 5s to 5m", span(l))
	}
	if q.SKU != "" && !slices.Contains(rule.skus, q.SKU) {
		return invalid("queue.sku is %q: want one of %s", q.SKU, strings.Join(rule.skus, ", "))
	}
	if attempts(c) < 1 || attempts(c) > mostDeliveries {
		return invalid("queue.attempts is %d: want 1 to %d", q.Attempts, mostDeliveries)
	}
	for key, name := range map[string]string{"request": q.Request, "response": q.Response} {
		if !rule.name.MatchString(name) {
			return invalid("queue.%s is %q: want %s", key, name, rule.want)
		}
		if q.Kind == config.QueueStorage && (name+deadSuffix == q.Request || name+deadSuffix == q.Response) {
			return invalid("queue.%s is %q, whose dead letters are in the other queue: give it another name", key, name)
		}
	}
	return nil
}

func checkShares(c *config.Cluster) error {
	seen := map[string]string{}
	for i, s := range c.Share {
		key := fmt.Sprintf("share[%d].at", i)
		at := path.Clean(s.At)
		if !path.IsAbs(s.At) || at != s.At || at == "/" || strings.Contains(s.At, ":") || len(s.At) > mostTag {
			return invalid("%s is %q: want an absolute path such as /data, without : in it", key, s.At)
		}
		for other, its := range seen {
			if other == at || strings.HasPrefix(other, at+"/") || strings.HasPrefix(at, other+"/") {
				return invalid("%s is %q, which is in %s: give each a place of its own", key, s.At, its)
			}
		}
		seen[at] = key
	}
	return nil
}

// upTimeout is how long a worker without a server waits for its service to come up.
const upTimeout = 30 * time.Second

func checkService(c *config.Cluster) error {
	s := c.Service
	if !slices.Contains(config.ServiceKinds(), s.Kind) {
		return invalid("service.kind is %q: want one of %v", s.Kind, config.ServiceKinds())
	}
	if s.Package != "" {
		return unsupported("service.package is %q: workers on Azure have no share of packages. Put the program into the image, or upload it with share and name its path in service.command", s.Package)
	}
	if s.UpTimeout != 0 && time.Duration(s.UpTimeout) != upTimeout {
		return unsupported("service.up_timeout is %s: workers on Azure wait %s", s.UpTimeout, span(upTimeout))
	}
	if k := c.Monitor.Kind; k != config.MonitorNone && k != config.MonitorInsights {
		return unsupported("monitor.kind is %q: on Azure it is insights", k)
	}
	if image := c.Monitor.Collector; image != "" && !imageRule.MatchString(image) {
		return invalid("monitor.collector is %q: want an image of an OpenTelemetry Collector with the exporter azuremonitor", image)
	}
	return nil
}

// mostWorkers is how many workers a resource group has room for: Azure forgets deployments of
// one that has 800 of them.
const mostWorkers = 700

// checkEnvironment refuses variables that the cluster gives its workers.
func checkEnvironment(c *config.Cluster) error {
	ours := []string{varRequests, varResponses, varContent, varBus, varStorage, varInsights}
	for _, name := range sortedKeys(c.Workers.Environment) {
		if !variableRule.MatchString(name) {
			return invalid("workers.environment.%s: want a name of letters, digits and _", name)
		}
		if slices.Contains(ours, name) {
			return invalid("workers.environment.%s: that variable is navvy's; leave it out", name)
		}
		if slices.Contains(led, name) && watched(c) {
			return invalid("workers.environment.%s: with monitor.kind insights traces go to a collector of the cluster's own; leave out one of them", name)
		}
	}
	return nil
}

func checkWorkers(c *config.Cluster) error {
	w := c.Workers
	switch {
	case !imageRule.MatchString(w.Image):
		return invalid("workers.image is %q: want an image with navvy at %s, such as one made FROM navvy's own", w.Image, program)
	case w.Autoscale != nil:
		return unsupported("workers.autoscale: workers on Azure do not scale by themselves. Say workers.count, or navvy cluster scale")
	case w.Count < 0 || w.Count > mostWorkers && !onAKS(c):
		return invalid("workers.count is %d: want 0 to %d; several clusters may serve one pair of queues", w.Count, mostWorkers)
	}
	if err := checkEnvironment(c); err != nil {
		return err
	}
	if u := c.Queue.URL; u != nil && u.Text != "" {
		if parsed, err := url.Parse(u.Text); err == nil && parsed.User != nil {
			if _, is := parsed.User.Password(); is {
				return invalid("queue.url holds a password: name a variable or a file that has it, as {env: NAME}")
			}
		}
	}
	return nil
}

// checkTags refuses what does not fit into a tag.
func checkTags(c *config.Cluster) error {
	if len(c.Workers.Labels) > 30 {
		return invalid("workers.labels has %d labels: a container group has room for 30", len(c.Workers.Labels))
	}
	values := map[string]string{"name": c.Name}
	for _, label := range sortedKeys(c.Workers.Labels) {
		if !labelRule.MatchString(label) {
			return invalid(`workers.labels.%s: a tag's name is without < > %% & \ ? /`, label)
		}
		values["workers.labels."+label] = c.Workers.Labels[label]
	}
	for _, key := range sortedKeys(values) {
		if len(values[key]) > mostTag {
			return invalid("%s has %d characters: Azure's tags have %d at most", key, len(values[key]), mostTag)
		}
	}
	return nil
}
