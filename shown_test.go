package navvy_test

import (
	"net/url"
	"testing"

	"github.com/navvy-run/navvy"
)

// What is shown of a URL has neither passwords nor tokens.
func TestShownURL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"nats://s3cret@h:4222/q?a=b": "nats://xxxxx@h:4222/q?a=b", "amqp://ann:s3cret@h/v/q": "amqp://ann:xxxxx@h/v/q",
		"redis://:s3cret@h/q": "redis://:xxxxx@h/q", "azqueue:///q": "azqueue:///q",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := navvy.ShownURL(u); got != want || u.String() != text {
			t.Errorf("%s is shown as %s, and is %s", text, got, u)
		}
	}
}
