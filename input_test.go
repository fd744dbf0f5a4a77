package navvy_test

import (
	"errors"
	"testing"

	"github.com/navvy-run/navvy"
)

// A message has the parts that it was made of, whatever bytes they are.
func TestMessage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ correlation, body string }{{"", ""}, {"a", ""}, {"", "b"}, {"order-9", "\x00\xff\n"}, {string(make([]byte, 300)), "x"}} {
		input := navvy.AppendMessage(nil, c.correlation, []byte(c.body))
		correlation, body, err := navvy.Message(input)
		if err != nil || correlation != c.correlation || string(body) != c.body {
			t.Errorf("%q, %q: %q, %q, %v", c.correlation, c.body, correlation, body, err)
		}
		if fields, err := navvy.InputMessage.Fields(input); err != nil || len(fields) != 1 || fields[0] != c.body {
			t.Errorf("%q, %q has the fields %q, %v", c.correlation, c.body, fields, err)
		}
	}
	for _, bad := range []string{"", "\x01", "\xff", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a"} {
		if _, _, err := navvy.Message([]byte(bad)); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := navvy.InputMessage.Fields([]byte(bad)); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("the fields of %q: %v", bad, err)
		}
	}
}
