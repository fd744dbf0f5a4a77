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
// specifies it. Exactly one of Body, Bytes and Claim is there.
type envelope struct {
	Version     int       `json:"navvy"`
	ID          string    `json:"id"`
	Correlation string    `json:"correlation,omitempty"`
	Sent        time.Time `json:"sent"`
	Body        *string   `json:"body,omitempty"`
	Bytes       []byte    `json:"bytes,omitempty"`
	Claim       *claim    `json:"claim,omitempty"`
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

// Enveloped tells whether the URL of a queue asks for the envelope.
func Enveloped(rawURL string) bool {
	u, err := url.Parse(rawURL)
	return err == nil && u.Query().Has("envelope")
}

// wrap puts a message into an envelope, with its body or with the claim for it.
func wrap(m *driver.Message, c *claim) []byte {
	e := envelope{Version: envelopeVersion, ID: m.ID, Correlation: m.Correlation, Sent: time.Now().UTC(), Claim: c}
	if c != nil {
		// The body lies elsewhere.
	} else if utf8.Valid(m.Body) && !bytes.ContainsAny(m.Body, "\uFFFE\uFFFF") { // which XML cannot carry
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
// somebody who knows nothing of envelopes, and is as it is. What has one that cannot be
// read has no body.
func (l *Lease) unwrap() {
	var head struct {
		Version float64 `json:"navvy"`
		ID      string  `json:"id"`
	}
	if json.Unmarshal(l.d.Body, &head) != nil || head.Version < envelopeVersion || head.ID == "" {
		return // no envelope
	}
	l.id, l.body = head.ID, nil
	if head.Version != envelopeVersion { // the rest is for those who know it
		l.broken = fmt.Errorf("it is in an envelope of version %v, and this navvy reads %d: %w", head.Version, envelopeVersion, navvy.ErrUnsupported)
		return
	}
	var e envelope
	if err := json.Unmarshal(l.d.Body, &e); err != nil {
		l.broken = fmt.Errorf("its envelope cannot be read: %w: %w", err, navvy.ErrInvalid)
		return
	}
	l.correlation, l.enqueued = e.Correlation, e.Sent
	switch {
	case e.parts() != 1:
		l.broken = fmt.Errorf("its envelope has %d of body, bytes and claim, and has to have one: %w", e.parts(), navvy.ErrInvalid)
	case e.Claim != nil:
		l.claim, l.broken = e.Claim, e.Claim.check()
	case e.Body != nil:
		l.body = []byte(*e.Body)
	default:
		l.body = e.Bytes
	}
}

// parts is in how many ways there is a body.
func (e *envelope) parts() int {
	n := 0
	for _, there := range []bool{e.Body != nil, e.Bytes != nil, e.Claim != nil} {
		if there {
			n++
		}
	}
	return n
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
