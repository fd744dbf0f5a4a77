package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/placeholder"
	runnerdriver "github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/share/staging"
)

// bucketServer reads where the buckets of containers are, as pods reach the server, and the
// URL by which we do if that is another: NAVVY_BUCKETS, or what a cluster tells of a service,
// under the names that older workers have for it.
func bucketServer(env func(string) string) (server staging.Server, here string, err error) {
	text := env("NAVVY_BUCKETS")
	if host := env("MINIO_SERVICE_HOST"); text == "" && host != "" {
		text = "http://" + net.JoinHostPort(host, cmp.Or(env("MINIO_SERVICE_PORT"), "9000"))
	}
	if text != "" {
		if server, err = staging.ParseServer(text); err != nil {
			return server, "", fmt.Errorf("NAVVY_BUCKETS: %w", err)
		}
	}
	if text := env("NAVVY_BUCKETS_HERE"); text != "" {
		s, err := staging.ParseServer(text)
		if err != nil {
			return server, "", fmt.Errorf("NAVVY_BUCKETS_HERE: %w", err)
		}
		here = s.Endpoint
	}
	server.Key, server.Secret = env("MINIO_ROOT_USER"), env("MINIO_ROOT_PASSWORD")
	if (server.Key == "") != (server.Secret == "") {
		return server, "", fmt.Errorf("MINIO_ROOT_USER and MINIO_ROOT_PASSWORD: one is set without the other: %w", navvy.ErrInvalid)
	}
	return server, here, nil
}

// bucketTemplate reads the placeholders in the names of a container's buckets.
func bucketTemplate(c *navvy.Container, fields int) (*placeholder.Template, error) {
	texts := []string{"buckets", c.Buckets.Input, c.Buckets.Output, c.Buckets.Prefix} // the first is never empty
	for _, text := range texts {
		if strings.Contains(text, "{%}") { // whoever takes the task over has another
			return nil, fmt.Errorf("%q: the names of buckets and objects cannot depend on a slot: %w", text, navvy.ErrInvalid)
		}
	}
	return placeholder.Parse(texts, placeholder.Options{Columns: c.Command.Columns, Fields: fields, Stdin: true})
}

// inBuckets tells whether the input of a task is in the names of its buckets: then it is not
// appended to a command that has no placeholder.
func inBuckets(spec *navvy.Spec) bool {
	c := spec.Container
	if c == nil || c.Command.Literal || !c.Buckets.Any() {
		return false
	}
	t, err := bucketTemplate(c, 0)
	return err == nil && t.UsesInput()
}

// checkBuckets refuses placeholders that the inputs do not fill; 0 fields are any number.
func checkBuckets(spec *navvy.Spec, fields int) error {
	if c := spec.Container; c != nil && !c.Command.Literal {
		if _, err := bucketTemplate(c, fields); err != nil {
			return usagef("the names of buckets: %w", err)
		}
	}
	return nil
}

// fillBuckets fills the placeholders in the names of a task's buckets.
func fillBuckets(t *runnerdriver.Task) (input, output, prefix string, err error) {
	fields, err := t.Format.Fields(t.Input)
	if err != nil {
		return "", "", "", err
	}
	template, err := bucketTemplate(t.Spec.Container, 0)
	if err != nil {
		return "", "", "", err
	}
	filled, err := template.Render(nil, placeholder.Values{Fields: fields, Seq: t.ID.Index + 1, Slot: 1})
	if err != nil {
		return "", "", "", err
	}
	if len(filled) != 4 {
		return "", "", "", errors.New("the names of buckets are not filled")
	}
	return filled[1], filled[2], filled[3], nil
}
