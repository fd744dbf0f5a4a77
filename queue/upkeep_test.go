package queue_test

import (
	"testing"

	"github.com/navvy-run/navvy/queue"
)

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, want, named string }{
		{"redis://host:1/q?db=2", "redis://host:1/q.dead?db=2", "redis://host:1/q?db=2"},
		{"redis://host:1/q.dead", "redis://host:1/q.dead", "redis://host:1/q.dead"},
		{"amqps://ann:pass@host/a%20b", "amqps://ann:pass@host/a%20b.dead", "amqps://host/a%20b"},
		{"nats://token@host/q", "nats://token@host/q.dead", "nats://host/q"},
		{"azqueue:///q?envelope=json", "azqueue:///q-dead?envelope=json", "azqueue:///q?envelope=json"},
		{"azservicebus://space/q", "azservicebus://space/q/$DeadLetterQueue", "azservicebus://space/q"},
		{"azservicebus://space/q/$deadletterqueue", "azservicebus://space/q/$deadletterqueue", "azservicebus://space/q/$deadletterqueue"},
		{"mem://q", "mem://q.dead", "mem://q"},
		{"nix://host/q", "", "nix://host/q"},
		{"redis://host:port/q", "", ""},
	} {
		dead, err := queue.DeadLetters(c.url)
		named, had := queue.WithoutUser(c.url)
		if dead != c.want || (err != nil) != (c.want == "") || named != c.named || had != (named == "" || named != c.url) {
			t.Errorf("%s: %s, %v; %s, %t", c.url, dead, err, named, had)
		}
	}
}
