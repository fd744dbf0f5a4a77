package queue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// envelope is what travels as the body of a queue with ?envelope=json; docs/brokers.md
// specifies it. Exactly one of Body and Bytes is there.
type envelope struct {
	Version     int       `json:"navvy"`
	ID          string    `json:"id"`
	Correlation string    `json:"correlation,omitempty"`
	Sent        time.Time `json:"sent"`
	Body        *string   `json:"body,omitempty"`
	Bytes       []byte    `json:"bytes,omitempty"`
}

const envelopeVersion = 1

// takeEnvelope takes the option envelope from a URL.
func takeEnvelope(u *url.URL) (bool, error) {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil || !values.Has("envelope") {
		return false, nil //nolint:nilerr // the driver reads the options, and tells what is wrong with them
	}
	if list := values["envelope"]; len(list) != 1 || list[0] != "json" {
		return false, fmt.Errorf("queue %s: option envelope: there is only envelope=json: %w", u.Redacted(), navvy.ErrInvalid)
	}
	values.Del("envelope")
	u.RawQuery = values.Encode()
	return true, nil
}

// wrap puts a message into an envelope.
func wrap(m *driver.Message) []byte {
	e := envelope{Version: envelopeVersion, ID: m.ID, Correlation: m.Correlation, Sent: time.Now().UTC()}
	if utf8.Valid(m.Body) && !bytes.ContainsAny(m.Body, "\uFFFE\uFFFF") { // which XML cannot carry
		text := string(m.Body)
		e.Body = &text
	} else {
		e.Bytes = m.Body
	}
	raw, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings, a time and bytes
	}
	return raw
}

// unwrap takes the message of the lease out of its envelope. What has none was sent by
// somebody who knows nothing of envelopes, and is as it is.
func (l *Lease) unwrap() {
	var e envelope
	if json.Unmarshal(l.d.Body, &e) != nil || e.Version != envelopeVersion || (e.Body == nil) == (e.Bytes == nil) {
		return
	}
	l.id, l.correlation, l.enqueued, l.body = e.ID, e.Correlation, e.Sent, e.Bytes
	if e.Body != nil {
		l.body = []byte(*e.Body)
	}
}

// isText tells whether a body can travel as text that XML carries: valid UTF-8 without the
// characters that XML has no form for, and without carriage returns, which those who read
// XML turn into line feeds.
func isText(body []byte) bool {
	if !utf8.Valid(body) {
		return false
	}
	for _, r := range string(body) {
		if (r < ' ' && r != '\t' && r != '\n') || r == 0xFFFE || r == 0xFFFF {
			return false
		}
	}
	return true
}
