package mstc

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
)

// Bounds of a request.
const (
	maxBody     = 256 << 10            // bytes
	maxEcho     = 4 << 10              // of a body in the answer to it, in bytes
	defaultTime = 15                   // minutes, of a request that names none
	maxTime     = 366 * 24 * 60        // minutes
	maxBucket   = navvy.MaxMessage / 2 // the name or URL of a bucket, or a prefix, in bytes
)

// request is what a client asks for.
type request struct {
	Image   string `json:"image"`
	JobName string `json:"jobName,omitempty"`
	// Minutes are how long it may take.
	Minutes int64 `json:"minutes"`
	// First says that it is of the first generation, which is answered with the log.
	First  bool   `json:"first,omitempty"`
	Input  string `json:"input,omitempty"`
	Output string `json:"output,omitempty"`
	Prefix string `json:"prefix,omitempty"`
}

// invalid is a request that is none; its text is what is wrong with it.
type invalid string

func (e invalid) Error() string { return string(e) }

// parse reads a request. The error is of type invalid.
func parse(body []byte) (*request, error) {
	if len(body) > maxBody {
		return nil, invalid(fmt.Sprintf("The request has %d bytes, more than %d", len(body), maxBody))
	}
	f := fields{}
	if err := json.Unmarshal(body, &f.all); err != nil || f.all == nil {
		return nil, invalid("No image")
	}
	r := &request{Image: f.text("image"), JobName: f.text("jobName"), Minutes: f.minutes(), First: f.first()}
	input, output := r.buckets()
	if r.Input, r.Output = f.text(input), f.text(output); !r.First {
		r.Prefix = f.text("prefix")
	}
	switch {
	case r.Image == "":
		return nil, invalid("No image")
	case f.wrong != "":
		return nil, invalid("Bad " + f.wrong)
	case !r.First && r.JobName == "":
		return nil, invalid("No jobName")
	case !r.First && r.Input == "":
		return nil, invalid("No inputBucket")
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return r, nil
}

// buckets are the fields that name the buckets.
func (r *request) buckets() (input, output string) {
	if r.First {
		return "inputBucketUrl", "outputBucketUrl"
	}
	return "inputBucket", "outputBucket"
}

// check finds what no job can have, and names the field of the contract that has it. The
// error is of type invalid.
func (r *request) check() error {
	input, output := r.buckets()
	for _, b := range []struct{ field, bucket string }{{input, r.Input}, {output, r.Output}} {
		switch url := strings.Contains(b.bucket, "://"); {
		case b.bucket == "" || url == r.First:
		case r.First:
			return invalid(fmt.Sprintf("Bad %s: want a URL as in http://host:9000/bucket", b.field))
		default:
			return invalid(fmt.Sprintf("Bad %s: want the name of a bucket, no URL", b.field))
		}
	}
	const some = "any" // is a good image, and a good bucket
	for _, one := range []struct {
		field string
		request
	}{
		{"image", request{Image: r.Image}},
		{"jobName", request{Image: some, JobName: r.JobName}},
		{input, request{Image: some, Input: r.Input}},
		{output, request{Image: some, Output: r.Output}},
		{"prefix", request{Image: some, Input: some, Prefix: r.Prefix}},
		{"request", *r}, // none of them alone
	} {
		job := one.job()
		if err := cmp.Or(job.ValidateNames(), job.Spec.Validate()); err != nil {
			return invalid(fmt.Sprintf("Bad %s: %s", one.field, strings.TrimPrefix(words(err), one.field+" ")))
		}
	}
	return nil
}

// job is the job that does it.
func (r *request) job() navvy.Job {
	return navvy.Job{
		Name: r.JobName, Detached: true,
		Spec: navvy.Spec{Timeout: time.Duration(r.Minutes) * time.Minute, Container: r.container()},
	}
}

// container is what runs: the image, with its own entry point and command.
func (r *request) container() *navvy.Container {
	return &navvy.Container{
		Image: r.Image, Name: r.JobName, Command: navvy.Command{Literal: true},
		Buckets: navvy.Buckets{Input: r.Input, Output: r.Output, Prefix: r.Prefix},
	}
}

// fields are those of a body. Whatever is unknown is ignored; null is as if it were not there.
type fields struct {
	all   map[string]json.RawMessage
	wrong string // the first that is none of its type
}

// first tells whether the fields are those of the first generation: it names buckets by
// URLs, and needs none. Of a request of either the fields of the other are unknown, and so
// ignored.
func (f *fields) first() bool {
	switch {
	case f.has("inputBucket"):
		return false
	case f.has("inputBucketUrl"), f.has("outputBucketUrl"):
		return true
	}
	return !f.has("outputBucket") && !f.has("prefix")
}

func (f *fields) has(name string) bool {
	raw, ok := f.all[name]
	return ok && string(raw) != "null"
}

// text is a string; empty if there is none.
func (f *fields) text(name string) string {
	if !f.has(name) {
		return ""
	}
	var s string
	if err := json.Unmarshal(f.all[name], &s); err != nil || len(s) > maxBucket || strings.ContainsRune(s, 0) {
		f.bad(name)
		return ""
	}
	return strings.TrimSpace(s)
}

// minutes is the timeout.
func (f *fields) minutes() int64 {
	const name = "timeOut"
	if !f.has(name) {
		return defaultTime
	}
	n, err := strconv.ParseFloat(string(f.all[name]), 64)
	if err != nil || n != math.Trunc(n) || n < 0 || n > maxTime {
		f.bad(name)
		return 0
	}
	return cmp.Or(int64(n), defaultTime)
}

func (f *fields) bad(name string) { f.wrong = cmp.Or(f.wrong, name) }

// echo is a body as an answer repeats it.
func echo(body []byte) string {
	const more = "…"
	text := strings.ToValidUTF8(string(body[:min(len(body), maxEcho)]), "\ufffd")
	if len(body) > maxEcho {
		text += more
	}
	return text
}

// rooms are what errors begin with that say where in navvy they were found.
var rooms = regexp.MustCompile(`^((spec|job|submit|mstc): )+`)

// roles are what a policy says of an image, to who uses navvy.
var roles = regexp.MustCompile(` is not for jobs of role \w+, only `)

// words is what an error says, for who knows nothing of navvy: less where it was found, the
// sentinel at its end, and what people who run navvy could do.
func words(err error) string {
	text := rooms.ReplaceAllString(err.Error(), "")
	for _, sentinel := range []error{
		navvy.ErrInvalid, navvy.ErrNotFound, navvy.ErrUnavailable, navvy.ErrConflict, navvy.ErrDenied, navvy.ErrUnsupported, navvy.ErrExhausted,
	} {
		text = strings.TrimSuffix(text, ": "+sentinel.Error())
	}
	if what, _, ok := strings.Cut(text, "; "); ok && errors.Is(err, navvy.ErrDenied) {
		text = what
	}
	return roles.ReplaceAllString(text, " is not allowed here, only ")
}
