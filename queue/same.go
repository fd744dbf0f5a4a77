package queue

import (
	"net/url"
	"strings"
)

// Same tells whether two URLs name one queue: by scheme, host, port and path, whoever the
// user is. Of the options only those count that say where a queue is: the virtual host of
// RabbitMQ and the database of Redis. URLs that cannot be read are not the same as any.
func Same(a, b string) bool {
	p, err := url.Parse(a)
	if err != nil || p.Scheme == "" || p.Opaque != "" {
		return false
	}
	q, err := url.Parse(b)
	return err == nil && q.Opaque == "" && whereOf(p) == whereOf(q)
}

// where says which queue a URL names.
type where struct{ scheme, host, port, path, part string }

func whereOf(u *url.URL) where {
	w := where{scheme: u.Scheme, host: u.Hostname(), port: u.Port(), path: strings.TrimPrefix(u.Path, "/")}
	usual := map[string]struct{ port, option, value string }{
		"amqp":   {"5672", "vhost", "/"},
		"amqps":  {"5671", "vhost", "/"},
		"nats":   {port: "4222"},
		"redis":  {"6379", "db", "0"},
		"rediss": {"6379", "db", "0"},
		"tls":    {port: "4222"},
	}[w.scheme]
	if w.scheme != "mem" { // where it is the queue's name
		w.host = strings.ToLower(w.host)
	}
	if w.port == "" {
		w.port = usual.port
	}
	if usual.option != "" {
		if w.part = u.Query().Get(usual.option); w.part == "" {
			w.part = usual.value
		}
	}
	return w
}
