package mstc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/gateway/records"
)

// What names of records begin with: answers that are owed, by when their requests came; and
// requests of which the broker may not know that they were taken, by what is in them.
const (
	intentPrefix = "answer/"
	doubtPrefix  = "doubt/"
)

// recordVersion is that of the records that are written. Others are refused.
const recordVersion = 1

// intent is an answer that is owed. Its record goes when the broker has the answer.
type intent struct {
	Version int `json:"version"`
	// ReplyTo and Correlation are the request's: any bytes.
	ReplyTo     []byte    `json:"replyTo,omitempty"`
	Correlation []byte    `json:"correlation,omitempty"`
	Came        time.Time `json:"came"`
	// Request is what is to be done; nil if the answer is known: Reply.
	Request *request `json:"request,omitempty"`
	Reply   *reply   `json:"reply,omitempty"`
	// Cut says that Reply is less than the answer, which did not fit: Request and Job tell
	// the whole, as long as there is the job.
	Cut bool `json:"cut,omitempty"`
	// Job is what does it, once there is one.
	Job navvy.JobID `json:"job,omitempty"`

	name string // of the record
}

// maxRecord is how large a record may be, in bytes: stores take a megabyte.
const maxRecord = 1 << 19

// concluded is the record of an intent whose answer is known.
func (in *intent) concluded() records.Change {
	known := *in
	known.Request = nil
	if c := write(in.name, &known); len(c.Value) <= maxRecord {
		return c
	}
	known.Request, known.Cut = in.Request, true
	known.Reply = in.Reply.without("the log was too large to be kept for this answer")
	return write(in.name, &known)
}

// doubt is a request that was taken, as long as the broker may not know it: it comes again
// if the connection broke, or this process died, before the acknowledgement arrived.
type doubt struct {
	Version int       `json:"version"`
	Came    time.Time `json:"came"`
	// Named says that the client has given it an id, by which it is told from others.
	Named bool `json:"named,omitempty"`
}

// How long a doubt lasts. A broker that lost the connection gives the request to somebody
// else after a minute, unless it is away itself. One without an id could be taken for another
// that says the same, and so for less time.
const (
	doubtTime        = 7 * 24 * time.Hour
	doubtTimeUnnamed = time.Hour
)

func (d *doubt) over(now time.Time) bool {
	if d.Named {
		return now.Sub(d.Came) > doubtTime
	}
	return now.Sub(d.Came) > doubtTimeUnnamed
}

// newName names a record of an answer: names are in the order of time.
func newName(now time.Time) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return fmt.Sprintf("%020d-%s", now.UnixNano(), hex.EncodeToString(b[:]))
}

// sum is of all by which a message can be told from others.
func sum(d *amqp.Delivery) string {
	h := sha256.New()
	h.Write(navvy.AppendFields(nil, d.ReplyTo, d.CorrelationId, d.MessageId, d.AppId, d.UserId, fmt.Sprint(d.Timestamp.UnixNano())))
	h.Write(d.Body)
	return hex.EncodeToString(h.Sum(nil))
}

// named tells whether a message has an id of its own.
func named(d *amqp.Delivery) bool { return d.CorrelationId != "" || d.MessageId != "" }

// write is the change that writes a record.
func write(name string, value any) records.Change {
	b, err := json.Marshal(value)
	if err != nil {
		panic(err) // it is made of texts, numbers and times
	}
	return records.Change{Record: records.Record{Name: name, Value: b}}
}

// readIntent reads a record.
func readIntent(r *records.Record) (*intent, error) {
	in := &intent{name: r.Name}
	if err := readRecord(r, in, &in.Version); err != nil {
		return nil, err
	}
	if in.Request == nil && in.Reply == nil {
		return nil, fmt.Errorf("mstc: record %s says neither what is asked for nor what is answered: %w", r.Name, navvy.ErrCorrupt)
	}
	return in, nil
}

func readRecord(r *records.Record, v any, version *int) error {
	if err := json.Unmarshal(r.Value, v); err != nil {
		return fmt.Errorf("mstc: record %s: %w: %w", r.Name, err, navvy.ErrCorrupt)
	}
	if *version != recordVersion {
		return fmt.Errorf("mstc: record %s has version %d; this navvy knows %d: %w", r.Name, *version, recordVersion, navvy.ErrUnsupported)
	}
	return nil
}

// doubtful finds a request that was taken and is like this one, of which the broker may not
// know it; empty if there is none.
func (g *Gateway) doubtful(ctx context.Context, of string) (string, error) {
	found := ""
	err := records.Each(ctx, g.records, doubtPrefix+of+"/", func(r *records.Record) error {
		d := &doubt{}
		if err := readRecord(r, d, &d.Version); err != nil {
			return err
		}
		if found == "" && !d.over(g.opts.Clock()) {
			found = r.Name
		}
		return nil
	})
	return found, err
}

// forget removes doubts that are over.
func (g *Gateway) forget(ctx context.Context) error {
	var over []records.Change
	err := records.Each(ctx, g.records, doubtPrefix, func(r *records.Record) error {
		d := &doubt{}
		if err := readRecord(r, d, &d.Version); err != nil {
			return err
		}
		if d.over(g.opts.Clock()) {
			over = append(over, records.Removal(r.Name))
		}
		return nil
	})
	if err != nil || over == nil {
		return err
	}
	return g.records.Apply(ctx, over...)
}
