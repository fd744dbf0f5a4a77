package queue_test

import (
	"testing"

	"github.com/navvy-run/navvy/queue"
)

func TestSame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"redis://host/q", "redis://host/q", true},
		{"redis://host/q", "redis://HOST:6379/q", true},
		{"redis://host/q", "redis://ann:secret@host/q?ca=x.pem", true},
		{"redis://host/q", "redis://host/q?envelope=json", true},
		{"redis://host/q", "redis://host/q?db=0", true},
		{"redis://host/q", "redis://host/q?db=1", false},
		{"redis://host/q", "redis://host/r", false},
		{"redis://host/q", "redis://host/Q", false},
		{"redis://host/q", "redis://host:6380/q", false},
		{"redis://host/q", "redis://other/q", false},
		{"redis://host/q", "rediss://host/q", false},
		{"redis://[::1]/q", "redis://[::1]:6379/q", true},
		{"amqp://host/a%20b", "amqp://guest:guest@host:5672/a%20b?vhost=/&type=classic", true},
		{"amqp://host/q?vhost=one", "amqp://host/q?vhost=two", false},
		{"amqps://host/q", "amqps://host:5671/q", true},
		{"nats://host/q", "nats://host:4222/q", true},
		{"azqueue:///q", "azqueue:///q?interval=1s", true},
		{"azqueue://one/q", "azqueue://two/q", false},
		{"mem://q", "mem://q", true},
		{"mem://q", "mem://r", false},
		{"mem://q", "mem://Q", false},
		{"redis://host:port/q", "redis://host:port/q", false},
		{"q", "q", false},
		{"", "", false},
	} {
		if queue.Same(c.a, c.b) != c.want || queue.Same(c.b, c.a) != c.want {
			t.Errorf("%s and %s: want %t", c.a, c.b, c.want)
		}
	}
}
