package queue

import (
	"bytes"
	"encoding/xml"
	"testing"

	"github.com/navvy-run/navvy/queue/driver"
)

// FuzzText has any bodies: what is said to be text comes out of XML as it went in, and any
// body does in an envelope, whose own text XML carries too.
func FuzzText(f *testing.F) {
	for _, body := range []string{"", " \t\n", "a\r\nb", "\x00", "<&]]>", "\uFFFE", "\uFFFF", "\xff", "\uFFFD", "\u0085\u2028\x7f", "\U0010FFFF"} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if isText(body) && !bytes.Equal(throughXML(t, body), body) {
			t.Errorf("%q is no text", body)
		}
		raw := wrap(&driver.Message{ID: "id", Body: body}, nil)
		if !isText(raw) {
			t.Errorf("the envelope of %q is no text: %q", body, raw)
		}
		l := Lease{d: &driver.Delivery{Body: throughXML(t, raw)}}
		if l.unwrap(); l.id != "id" || !bytes.Equal(l.body, body) {
			t.Errorf("%q came out of its envelope as %q", body, l.body)
		}
	})
}

func throughXML(t *testing.T, text []byte) []byte {
	t.Helper()
	raw, err := xml.Marshal(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var back string
	if err := xml.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	return []byte(back)
}
