package redisqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/navvy-run/navvy"
)

var errGone = fmt.Errorf("the connection is closed: %w", navvy.ErrUnavailable)

// answers are the first words of errors that Redis gives, and what they mean to us.
var answers = []struct {
	prefix, hint string
	err          error
}{
	{"NOAUTH", "put a user and a password into the URL", navvy.ErrDenied},
	{"WRONGPASS", "there is no such user, or the password is wrong", navvy.ErrDenied},
	{"NOPERM", "this user may not do that", navvy.ErrDenied},
	{"DENIED", "the server is in protected mode", navvy.ErrDenied},
	{"OOM", "the server has used all the memory that it may", navvy.ErrExhausted},
	{"max number of clients reached", "", navvy.ErrExhausted},
	{"WRONGTYPE", "a key of this queue is something else: take another name", navvy.ErrConflict},
	{"NOGROUP", "somebody removed the queue", navvy.ErrNotFound},
	{"UNBLOCKED", "somebody removed the queue", navvy.ErrNotFound},
	{"DB index is out of range", "option db", navvy.ErrInvalid},
	{"MOVED", "this server is one of a cluster, and another one has the queue: name that one", navvy.ErrUnsupported},
	{"CROSSSLOT", "", navvy.ErrUnsupported},
	{"LOADING", "", navvy.ErrUnavailable},
	{"READONLY", "this server is a replica", navvy.ErrUnavailable},
	{"MASTERDOWN", "", navvy.ErrUnavailable},
	{"CLUSTERDOWN", "", navvy.ErrUnavailable},
	{"TRYAGAIN", "", navvy.ErrUnavailable},
	{"BUSY", "", navvy.ErrUnavailable},
	{"NOREPLICAS", "", navvy.ErrUnavailable},
	{"MISCONF", "the server cannot write to its disk", navvy.ErrUnavailable},
	{"NOSCRIPT", "somebody removed our scripts", navvy.ErrUnavailable}, // a new connection loads them
}

// wrap says what an error of the client means. What is no answer of the broker is a
// connection that is lost.
func (c *conn) wrap(what string, err error) error {
	for _, a := range answers {
		if !redis.HasErrorPrefix(err, a.prefix) {
			continue
		}
		if a.err == navvy.ErrDenied { //nolint:errorlint // it is of the table
			what += ": as user " + strconv.Quote(cmp.Or(c.commands.Options().Username, "default"))
		}
		if a.hint != "" {
			return fmt.Errorf("redisqueue: %s: %s: %s: %w: %w", c.keys.name, what, a.hint, err, a.err)
		}
		return fmt.Errorf("redisqueue: %s: %s: %w: %w", c.keys.name, what, err, a.err)
	}
	var answer redis.Error
	if errors.As(err, &answer) && !errors.Is(err, redis.ErrClosed) && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("redisqueue: %s: %s: %w", c.keys.name, what, err)
	}
	return fmt.Errorf("redisqueue: %s: %s: %w: %w", c.keys.name, what, err, navvy.ErrUnavailable)
}

// lost says that a delivery is somebody else's by now.
func (c *conn) lost(t token) error {
	return fmt.Errorf("redisqueue: %s: entry %s is no longer leased to this receiver: %w", c.keys.name, t.entry, navvy.ErrLeaseLost)
}
