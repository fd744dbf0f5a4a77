package driver

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
)

// Query reads the options of a URL, of which each may stand once and only the known ones
// may stand. The error wraps navvy.ErrInvalid.
func Query(u *url.URL, known ...string) (url.Values, error) {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("queue %s: its options: %w: %w", navvy.ShownURL(u), err, navvy.ErrInvalid)
	}
	for name, list := range values {
		switch {
		case !slices.Contains(known, name) && len(known) == 0:
			return nil, fmt.Errorf("queue %s: option %q is unknown; %s:// has none: %w", navvy.ShownURL(u), name, u.Scheme, navvy.ErrInvalid)
		case !slices.Contains(known, name):
			return nil, fmt.Errorf("queue %s: option %q is unknown; %s:// has %s: %w", navvy.ShownURL(u), name, u.Scheme, strings.Join(known, ", "), navvy.ErrInvalid)
		case len(list) > 1:
			return nil, fmt.Errorf("queue %s: option %q stands twice: %w", navvy.ShownURL(u), name, navvy.ErrInvalid)
		}
	}
	return values, nil
}

// Name is the name of a queue that stands alone as a URL's path.
func Name(u *url.URL) (string, error) {
	name := strings.TrimPrefix(u.Path, "/")
	if name == "" {
		return "", fmt.Errorf("queue %s: the name of the queue is missing: %s://HOST/QUEUE: %w", navvy.ShownURL(u), u.Scheme, navvy.ErrInvalid)
	}
	return name, nil
}
