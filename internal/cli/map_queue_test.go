package cli

import (
	"slices"
	"testing"

	"github.com/spf13/pflag"
)

// With a broker's queue each flag of map is refused, or is one that does something there.
func TestBrokerGoes(t *testing.T) {
	t.Parallel()
	cmd := newMap(&app{env: func(string) string { return "" }})
	known := map[string]bool{}
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		known[flag.Name] = true
		f := &mapFlags{given: []string{flag.Name}}
		if err := f.checkGiven(); (err == nil) != slices.Contains(brokerGoes, flag.Name) {
			t.Errorf("--%s: %v", flag.Name, err)
		}
	})
	for _, name := range brokerGoes {
		if !known[name] {
			t.Errorf("there is no --%s", name)
		}
	}
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url, want string
		secret    bool
	}{
		{"redis://host:1/q?db=2", "redis://host:1/q.dead?db=2", false},
		{"amqps://ann:pass@host/a%20b", "amqps://host/a%20b.dead", true},
		{"nats://token@host/q", "nats://host/q.dead", true},
		{"azqueue:///q?envelope=json", "azqueue:///q-dead?envelope=json", false},
		{"azservicebus://space/q", "azservicebus://space/q/$DeadLetterQueue", false},
		{"mem://q", "", false},
		{"redis://host:port/q", "", false},
	} {
		if dead, secret := deadLetters(c.url); dead != c.want || secret != c.secret {
			t.Errorf("%s: %s, %t", c.url, dead, secret)
		}
	}
}
