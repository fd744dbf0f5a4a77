package config

import (
	"cmp"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
)

// What can be a queue's name with a broker.
var (
	storageQueue = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9])*$`)
	busQueue     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$`)
	brokerQueue  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
)

// broker is what there is to know of a kind of queue.
type broker struct {
	schemes []string // of its URLs
	made    bool     // whether azure makes it
	name    *regexp.Regexp
	least   int // letters of a name
	most    int
	letters string // what can be in a name, for people
	skus    words  // what azure makes of it
	// What a lease can be, if there is a bound.
	shortest, longest time.Duration
}

var brokers = map[QueueKind]broker{
	QueueNATS:     {schemes: []string{"nats", "tls"}, name: brokerQueue, least: 1, most: 200, letters: "letters, digits, and . _ - among them"},
	QueueRabbitMQ: {schemes: []string{"amqp", "amqps"}, name: brokerQueue, least: 1, most: 200, letters: "letters, digits, and . _ - among them"},
	QueueRedis:    {schemes: []string{"redis", "rediss"}, name: brokerQueue, least: 1, most: 200, letters: "letters, digits, and . _ - among them"},
	QueueServiceBus: {
		schemes: []string{"azservicebus"}, made: true, name: busQueue, least: 1, most: 260, letters: "letters, digits, and . _ - / between them",
		skus: words{"Basic", "Standard", "Premium"}, shortest: 5 * time.Second, longest: 5 * time.Minute,
	},
	QueueStorage: {
		schemes: []string{"azqueue"}, made: true, name: storageQueue, least: 3, most: 58, letters: "small letters, digits and single -",
		skus:     words{"Standard_LRS", "Standard_ZRS", "Standard_GRS", "Standard_RAGRS", "Standard_GZRS", "Standard_RAGZRS"},
		shortest: time.Second, longest: 7 * 24 * time.Hour,
	},
}

func (k *checker) queue() {
	q := &k.Queue
	if q.Attempts > maxAttempts {
		k.wrong("queue.attempts", "%d are too many, %d are the most", q.Attempts, maxAttempts)
	}
	if q.Kind.Server() {
		k.ownQueue()
		return
	}
	b := brokers[q.Kind]
	k.queueName("queue.request", q.Request, &b)
	k.queueName("queue.response", q.Response, &b)
	if request := cmp.Or(q.Request, defaultRequest); request == cmp.Or(q.Response, defaultResponse) {
		k.wrong("queue.response", "requests and answers want queues of their own, and both are %s", request)
	}
	k.lease(&b)
	switch {
	case q.URL == nil && b.made && k.Provider == ProviderAzure:
	case q.URL == nil && b.made:
		k.wrong("queue.url", "it is missing: only azure makes queues of the kind %s, and the provider is %s", q.Kind, k.Provider)
	case q.URL == nil:
		k.wrong("queue.url", "it is missing: where the broker is, such as %s://HOST, with a password as {env: NAME} or {file: PATH}", b.schemes[0])
	case q.URL.Plain():
		k.url(q.URL.Text, b.schemes)
	}
	k.sku(&b)
}

// ownQueue checks a queue of navvy's own.
func (k *checker) ownQueue() {
	q := &k.Queue
	if q.Request != "" {
		if err := navvy.ValidateQueue(q.Request); err != nil {
			k.wrong("queue.request", "%s", strings.TrimSuffix(why(err), ": "+navvy.ErrUnsupported.Error()))
		}
	}
	if q.Response != "" {
		k.wrong("queue.response", "a queue of the kind navvy gives its answers by the name in queue.request; take this out")
	}
	if q.URL != nil {
		k.wrong("queue.url", "the cluster has a server of its own with the kind navvy; for a broker write its kind, one of nats, rabbitmq, redis, servicebus, storage")
	}
	if q.SKU != "" {
		k.wrong("queue.sku", "only servicebus and storage have one")
	}
	if q.Lease != 0 && time.Duration(q.Lease) < time.Second {
		k.wrong("queue.lease", "%s is too short, 1s is the least", q.Lease)
	}
}

func (k *checker) queueName(key, name string, b *broker) {
	if name != "" && (len(name) < b.least || len(name) > b.most || !b.name.MatchString(name)) {
		k.wrong(key, "%q is no name of a queue with %s: want %d to %d %s", short(name), k.Queue.Kind, b.least, b.most, b.letters)
	}
}

func (k *checker) lease(b *broker) {
	lease := time.Duration(k.Queue.Lease)
	shortest := max(b.shortest, time.Second)
	switch {
	case lease == 0:
	case lease < shortest:
		k.wrong("queue.lease", "%s is too short, %s is the least", k.Queue.Lease, Duration(shortest))
	case b.longest > 0 && lease > b.longest:
		k.wrong("queue.lease", "%s is too long, %s is the most with %s; leases are renewed while the work goes on", k.Queue.Lease, Duration(b.longest), k.Queue.Kind)
	}
}

// url checks a URL that is in the file itself. Messages never have all of it.
func (k *checker) url(text string, schemes []string) {
	u, err := url.Parse(text)
	if err != nil || strings.Contains(text, "AccountKey=") || strings.Contains(text, "SharedAccessKey") {
		k.wrong("queue.url", "it is no URL such as %s://HOST; a connection string, or a URL with a password, is not written into this file: use {env: NAME} or {file: PATH}", schemes[0])
		return
	}
	_, password := u.User.Password()
	switch {
	case password || u.User != nil && u.Scheme == "nats":
		k.wrong("queue.url", "there is a password in it, and a secret is not written into this file: use {env: NAME} or {file: PATH}")
	case !slices.Contains(schemes, u.Scheme):
		k.wrong("queue.url", "the kind %s wants a URL with %s://", k.Queue.Kind, strings.Join(schemes, ":// or "))
	case u.Host == "" && !brokers[k.Queue.Kind].made:
		k.wrong("queue.url", "it names no host: %s://HOST", u.Scheme)
	case strings.Trim(u.Path, "/") != "":
		k.wrong("queue.url", "it ends with the name of a queue, %q: that belongs into queue.request and queue.response", short(strings.Trim(u.Path, "/")))
	}
}

func (k *checker) sku(b *broker) {
	q := &k.Queue
	switch {
	case q.SKU == "":
	case b.skus == nil:
		k.wrong("queue.sku", "only servicebus and storage have one")
	case q.URL != nil || k.Provider != ProviderAzure:
		k.wrong("queue.sku", "the tier is of what azure makes; these queues are at queue.url")
	case !slices.Contains(b.skus, q.SKU):
		k.wrong("queue.sku", "%s", choose(q.SKU, b.skus))
	}
}
