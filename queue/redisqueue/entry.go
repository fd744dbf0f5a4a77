package redisqueue

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/navvy-run/navvy/queue/driver"
)

// Fields of an entry.
const (
	fieldID          = "id"
	fieldCorrelation = "correlation"
	fieldReason      = "reason"
	fieldSent        = "sent"        // ms since 1970; of dead letters: when the message was sent
	fieldTried       = "navvy-tried" // of dead letters: how often the message had been delivered
	fieldBody        = "body"
)

// token is a lease: the count-th delivery of an entry.
type token struct {
	entry string
	count int64
}

// fields are what a message is in the stream.
func fields(m *driver.Message) []any {
	list := []any{fieldID, m.ID}
	if m.Correlation != "" {
		list = append(list, fieldCorrelation, m.Correlation)
	}
	return append(list, fieldBody, m.Body)
}

// delivery makes one of an entry's fields.
func delivery(t token, values map[string]string, until time.Time) *driver.Delivery {
	d := &driver.Delivery{
		ID: values[fieldID], Correlation: values[fieldCorrelation], Reason: values[fieldReason],
		Body: body(values), Attempt: int(t.count), Until: until, Token: t,
	}
	if d.ID == "" {
		d.ID = t.entry
	}
	sent, _, _ := strings.Cut(t.entry, "-")
	if s := values[fieldSent]; s != "" {
		sent = s
	}
	if ms, err := strconv.ParseInt(sent, 10, 64); err == nil {
		d.Enqueued = time.UnixMilli(ms)
	}
	d.Tried, _ = strconv.Atoi(values[fieldTried])
	return d
}

// body is the field of that name. Whoever added the entry by other means may have called
// it otherwise: without it the only field is the body, and of several a JSON object of all.
func body(values map[string]string) []byte {
	if b, ok := values[fieldBody]; ok {
		return []byte(b)
	}
	foreign := map[string]string{}
	for name, value := range values {
		switch name {
		case fieldID, fieldCorrelation, fieldReason, fieldSent, fieldTried:
		default:
			foreign[name] = value
		}
	}
	if len(foreign) == 1 {
		for _, value := range foreign {
			return []byte(value)
		}
	}
	raw, err := json.Marshal(foreign)
	if err != nil {
		panic(err) // a map of strings
	}
	return raw
}

// reply is what the script take gives.
type reply struct {
	block   time.Duration // how long there is nothing, unless something comes
	due     bool          // then there is
	entries []any
}

func readReply(list []any) (r reply, err error) {
	if len(list) == 3 {
		ms, isWait := list[0].(int64)
		due, isFlag := list[1].(int64)
		entries, isList := list[2].([]any)
		if isWait && isFlag && isList {
			return reply{block: time.Duration(ms) * time.Millisecond, due: due == 1, entries: entries}, nil
		}
	}
	return reply{}, fmt.Errorf("the script take gave a list of %d", len(list))
}

// readEntry reads one of the entries.
func readEntry(raw any) (token, map[string]string, error) {
	list, _ := raw.([]any)
	if len(list) != 3 {
		return token{}, nil, fmt.Errorf("the script take gave an entry of %d parts", len(list))
	}
	id, _ := list[0].(string)
	count, _ := list[1].(int64)
	pairs, _ := list[2].([]any)
	values := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		values[name], _ = pairs[i+1].(string)
	}
	return token{entry: id, count: count}, values, nil
}

// strung makes strings of the values of an entry that the client has read.
func strung(m *redis.XMessage) map[string]string {
	values := make(map[string]string, len(m.Values))
	for name, value := range m.Values {
		values[name], _ = value.(string)
	}
	return values
}
