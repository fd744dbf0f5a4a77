package rabbitqueue

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/navvy-run/navvy"
)

// find sees that the queue is there, or makes it and the one of its dead letters. It gives
// the kind of the queue. One that is there is taken as it is.
func find(w *wire, a *address, create bool) (kind string, err error) {
	there, err := exists(w, a.queue)
	switch {
	case err != nil:
		return "", err
	case there:
		if kind, err = kindOf(w, a); err != nil {
			return "", err
		}
	case !create:
		return "", fmt.Errorf("it does not exist in virtual host %s: %w", a.vhost, navvy.ErrNotFound)
	default:
		kind = a.kind
	}
	if !create {
		return kind, nil
	}
	if !strings.HasSuffix(a.queue, DeadSuffix) {
		if err := makeDead(w, a); err != nil {
			return "", err
		}
	}
	if there {
		return kind, nil
	}
	return kind, declare(w, a.queue, arguments(a))
}

// makeDead makes the queue of dead letters where it is missing.
func makeDead(w *wire, a *address) error {
	name := a.queue + DeadSuffix
	there, err := exists(w, name)
	if err == nil && !there {
		err = declare(w, name, amqp.Table{amqp.QueueTypeArg: a.kind})
	}
	if err != nil {
		return fmt.Errorf("its dead letters %s: %w", name, err)
	}
	return nil
}

// arguments are those of a new queue: what the broker gives up by itself goes to the dead
// letters, which stay where they are. It does so at most once: the other strategy is known
// to quorum queues only, and keeps what it cannot move in the memory of the broker.
func arguments(a *address) amqp.Table {
	table := amqp.Table{amqp.QueueTypeArg: a.kind}
	if !strings.HasSuffix(a.queue, DeadSuffix) {
		table["x-dead-letter-exchange"], table["x-dead-letter-routing-key"] = "", a.queue+DeadSuffix
	}
	return table
}

// exists asks whether there is a queue. A question that the broker answers with an error
// costs the channel, so each has its own.
func exists(w *wire, name string) (bool, error) {
	err := w.ask(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
		return err
	})
	if err = classify(err); errors.Is(err, navvy.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func declare(w *wire, name string, arguments amqp.Table) error {
	return classify(w.ask(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(name, true, false, false, false, arguments)
		return err
	}))
}

func (w *wire) ask(question func(*amqp.Channel) error) error {
	ch, err := w.Channel()
	if err != nil {
		return err
	}
	if err := question(ch); err != nil {
		return err // which has closed the channel
	}
	return ch.Close()
}

// differs reads what the broker says to a declaration that is not that of the queue.
var differs = regexp.MustCompile(`inequivalent arg '([^']+)' .* but current is (?:(none)|the value '(.*)' of type '(\w+)'|'(.*)')$`)

// kindOf finds out of which kind a queue is that exists. No question asks for it, but the
// broker says in what a declaration differs, one argument at a time: they are adopted until
// it is told of the kind, or finds no difference. Whoever may not declare takes the URL's
// word.
func kindOf(w *wire, a *address) (string, error) {
	arguments := arguments(a)
	for range 20 { // more than there are arguments
		err := w.ask(func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(a.queue, true, false, false, false, arguments)
			return err
		})
		if err == nil {
			return a.kind, nil
		}
		if w.IsClosed() {
			return "", classify(err)
		}
		said, ok := errors.AsType[*amqp.Error](err)
		if !ok || said.Code != amqp.PreconditionFailed {
			return a.kind, nil
		}
		found := differs.FindStringSubmatch(said.Reason)
		switch {
		case found == nil:
			return a.kind, nil
		case found[1] == amqp.QueueTypeArg:
			return is(found[3]+found[5], a)
		case found[5] != "": // durable, exclusive, auto_delete: quorum queues cannot do without the first, nor have the others
			return is(classic, a)
		}
		adopt(arguments, found)
	}
	return a.kind, nil
}

// is takes a queue of the kind that it has, unless the URL asks for another one.
func is(kind string, a *address) (string, error) {
	if kind == "" {
		kind = classic // as nothing is said
	}
	switch {
	case kind != quorum && kind != classic:
		return "", fmt.Errorf("it is a %s, which is no queue that messages can be taken off: %w", kind, navvy.ErrConflict)
	case a.asked && kind != a.kind:
		return "", fmt.Errorf("it exists and is %s, and the URL says type=%s: say type=%s, or take another name: %w", kind, a.kind, kind, navvy.ErrConflict)
	}
	return kind, nil
}

// adopt takes an argument as the queue has it.
func adopt(arguments amqp.Table, found []string) {
	name, none, value, kind := found[1], found[2], found[3], found[4]
	if none != "" {
		delete(arguments, name)
		return
	}
	arguments[name] = value
	if n, err := strconv.ParseInt(value, 10, 64); err == nil && kind != "longstr" {
		arguments[name] = n
	}
	if kind == "bool" {
		arguments[name] = value == "true"
	}
}
