package redisqueue

import (
	"fmt"
	"strings"

	"github.com/navvy-run/navvy"
)

// DeadSuffix is what the name of a queue's dead letters has behind the queue's own.
const DeadSuffix = ".dead"

// keys are those of a queue. All have the same hash tag, so that a cluster keeps them
// together and scripts may use them at once.
type keys struct {
	name                     string
	stream, held, wake, seen string
	dead                     string
}

// all are the keys of a script.
func (k *keys) all() []string { return []string{k.stream, k.held, k.wake, k.seen} }

func keysOf(name string) (keys, error) {
	base := name
	for strings.HasSuffix(base, DeadSuffix) {
		base = strings.TrimSuffix(base, DeadSuffix)
	}
	suffix := name[len(base):]
	tagged := base
	switch open := strings.IndexByte(base, '{'); {
	case base == "":
		return keys{}, fmt.Errorf("the name of a queue is %q: nothing is left without %s: %w", name, DeadSuffix, navvy.ErrInvalid)
	case !strings.ContainsAny(base, "{}"):
		tagged = "{" + base + "}"
	case open < 0 || strings.IndexByte(base[open:], '}') < 2:
		return keys{}, fmt.Errorf("the name of a queue is %q: its braces must enclose a hash tag: %w", name, navvy.ErrInvalid)
	}
	k := keys{name: name, stream: base, held: tagged + suffix + ":held", wake: tagged + suffix + ":wake", seen: tagged + suffix + ":seen"}
	if suffix != "" {
		k.stream = tagged + suffix
	}
	k.dead = tagged + suffix + DeadSuffix
	return k, nil
}
