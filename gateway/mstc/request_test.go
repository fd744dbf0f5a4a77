package mstc

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/gateway/records"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]request{
		`{"image":"i"}`: {Image: "i", Minutes: 15, First: true},
		`{"image":" i ","jobName":"n","timeOut":0,"inputBucketUrl":"http://h:9000/bbb"}`:                                          {Image: "i", JobName: "n", Minutes: 15, First: true, Input: "http://h:9000/bbb"},
		`{"image":"i","timeOut":2,"inputBucketUrl":"http://h:9000/uuu","outputBucketUrl":"http://h:9000/vvv","inputBucket":null}`: {Image: "i", Minutes: 2, First: true, Input: "http://h:9000/uuu", Output: "http://h:9000/vvv"},
		`{"image":"i","jobName":"n","timeOut":1e1,"inputBucket":"bbb","outputBucket":"ccc","prefix":"p"}`:                         {Image: "i", JobName: "n", Minutes: 10, Input: "bbb", Output: "ccc", Prefix: "p"},
		`{"image":"i","jobName":"n","inputBucket":"bbb","inputBucketUrl":"u","Image":"j","more":{"image":1}}`:                     {Image: "i", JobName: "n", Minutes: 15, Input: "bbb"},
		`{"image":"j","image":"i","timeOut":null,"jobName":null}`:                                                                 {Image: "i", Minutes: 15, First: true},
		`{"image":"i","inputBucketUrl":"http://h/bbb","prefix":"p","outputBucket":"ccc"}`:                                         {Image: "i", Minutes: 15, First: true, Input: "http://h/bbb"},
		`{"image":"i","outputBucketUrl":"http://h/bbb","prefix":7}`:                                                               {Image: "i", Minutes: 15, First: true, Output: "http://h/bbb"},
	} {
		got, err := parse([]byte(body))
		if err != nil || *got != want {
			t.Errorf("%s: %+v, %v; want %+v", body, got, err, want)
		}
	}
	for body, want := range map[string]string{
		``:                                   "No image",
		`null`:                               "No image",
		`[]`:                                 "No image",
		`"image"`:                            "No image",
		`{}`:                                 "No image",
		`{"image":""}`:                       "No image",
		`{"image":7}`:                        "No image",
		`{"Image":"i"}`:                      "No image",
		`{"image":"i"} {}`:                   "No image",
		`{"image":"i","jobName":["n"]}`:      "Bad jobName",
		`{"image":"i","jobName":"a\u0000b"}`: "Bad jobName",
		`{"image":"i","timeOut":"5"}`:        "Bad timeOut",
		`{"image":"i","timeOut":-1}`:         "Bad timeOut",
		`{"image":"i","timeOut":1.5}`:        "Bad timeOut",
		`{"image":"i","timeOut":1e300}`:      "Bad timeOut",
		`{"image":"i","timeOut":527041}`:     "Bad timeOut",
		`{"image":"i","inputBucket":"b"}`:    "No jobName",
		`{"image":"i","jobName":"n","outputBucket":"b"}`:                            "No inputBucket",
		`{"image":"i","jobName":"n","inputBucket":"In"}`:                            `Bad inputBucket: "In" is no name of a bucket`,
		`{"image":"i","jobName":"n","inputBucket":"bbb","outputBucket":"-"}`:        `Bad outputBucket: "-" is no name of a bucket`,
		`{"image":"i","jobName":"n","inputBucket":"http://h:9000/bbb"}`:             "Bad inputBucket: want the name of a bucket, no URL",
		`{"image":"i","jobName":"n","inputBucket":"bbb","outputBucket":"s3://ccc"}`: "Bad outputBucket: want the name of a bucket, no URL",
		`{"image":"i","inputBucketUrl":"bbb"}`:                                      "Bad inputBucketUrl: want a URL as in http://host:9000/bucket",
		`{"image":"i","outputBucketUrl":"bbb"}`:                                     "Bad outputBucketUrl: want a URL as in http://host:9000/bucket",
		`{"image":"i","inputBucketUrl":"http://u:p@h/bbb"}`:                         "Bad inputBucketUrl: the bucket",
		`{"image":"i","jobName":"n","inputBucket":"bbb","prefix":"a\nb"}`:           "Bad prefix: the prefix",
		`{"image":"i j"}`: `Bad image: "i j": want at most`,
		`{"image":"i","jobName":"` + strings.Repeat("n", 300) + `"}`: "Bad jobName: the name has 300 bytes",
	} {
		_, err := parse([]byte(body))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v; want %s", body, err, want)
		}
	}
}

// Who reads an answer knows nothing of navvy, its policy and its files.
func TestWords(t *testing.T) {
	t.Parallel()
	for text, err := range map[string]error{
		"image a is not allowed here, only b/*": fmt.Errorf("submit: image a is not for jobs of role user, only b/*; role admin may ask for it, and who may write /p.yaml can change that: %w", navvy.ErrDenied),
		"want this; or that":                    fmt.Errorf("job: spec: want this; or that: %w", navvy.ErrInvalid),
		"it is full":                            fmt.Errorf("it is full: %w", navvy.ErrExhausted),
	} {
		if got := words(err); got != text {
			t.Errorf("%v: %q; want %q", err, got, text)
		}
	}
}

// Whatever comes, a request is one that can be a job, and an answer is text.
func FuzzParse(f *testing.F) {
	for _, body := range []string{
		`{"image":"i","jobName":"n","timeOut":3,"inputBucket":"bbb","outputBucket":"ccc","prefix":"p"}`,
		`{"image":"i","inputBucketUrl":"http://h:9000/b"}`, `{"image":"\ud800"}`, "{\"image\":\"\xff\"}", `{`, ``,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parse(body)
		if err != nil {
			if _, ok := errors.AsType[invalid](err); !ok || r != nil {
				t.Fatalf("%v, %+v", err, r)
			}
			if said := refusedAs(err, body); !utf8.Valid(said.body()) || len(said.Result) > 3*maxEcho+navvy.MaxMessage {
				t.Fatalf("%d bytes are said of %q", len(said.Result), body)
			}
			return
		}
		job := r.job()
		job.ID, job.Owner, job.Queue = navvy.NewJobID(), DefaultOwner, navvy.DefaultQueue
		if err := job.Validate(); err != nil {
			t.Fatal(err)
		}
		if job.Spec.Timeout <= 0 || r.container().JobName(navvy.TaskID{Job: job.ID}, 0, 0) == "" {
			t.Fatalf("%+v", job)
		}
	})
}

func TestFromEnvironment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env  map[string]string
		want address
	}{
		{map[string]string{"WORK_QUEUE_HOST": "mq"}, address{at: "mq:5672", user: "guest", password: "guest", vhost: "/"}},
		{map[string]string{"WORK_QUEUE_HOST": "mq", "WORK_QUEUE_PORT": "5673", "WORK_QUEUE_USER": "a@b", "WORK_QUEUE_PASS": "c:d/e"}, address{at: "mq:5673", user: "a@b", password: "c:d/e", vhost: "/"}},
		{map[string]string{"WORK_QUEUE_HOST": "::1", "WORK_QUEUE_PORT": "tcp://10.0.0.1:5674"}, address{at: "[::1]:5674", user: "guest", password: "guest", vhost: "/"}},
	} {
		u, err := FromEnvironment(func(name string) string { return c.env[name] })
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readURL(u); err != nil || *got != c.want {
			t.Errorf("%v: %+v, %v; want %+v", c.env, got, err, c.want)
		}
	}
	if u, err := FromEnvironment(func(string) string { return "" }); u != "" || err != nil {
		t.Errorf("%q, %v", u, err)
	}
	bad := map[string]string{"WORK_QUEUE_HOST": "mq", "WORK_QUEUE_PORT": "x", "WORK_QUEUE_USER": "u", "WORK_QUEUE_PASS": "hunter2"}
	if _, err := FromEnvironment(func(name string) string { return bad[name] }); !errors.Is(err, navvy.ErrInvalid) || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
	for _, u := range []string{"", "amqp://", "http://mq", "amqp://mq/queue", "amqp://u:hunter2@mq/?colour=red", "amqp://u:hunter2@mq:x/", "amqps://mq?ca=/none"} {
		if err := CheckBroker(u); !errors.Is(err, navvy.ErrInvalid) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", u, err)
		}
	}
}

// Records of earlier versions stay readable, and what this navvy does not know it refuses.
func TestRecords(t *testing.T) {
	t.Parallel()
	const kept = `{"version":1,"replyTo":"cQ==","correlation":"MQ==","came":"2026-11-23T08:00:00Z",` +
		`"request":{"image":"i","jobName":"n","minutes":15,"input":"b","output":"c","prefix":"p"},"job":"0123456789ab"}`
	in, err := readIntent(&records.Record{Name: "answer/1", Value: []byte(kept)})
	want := request{Image: "i", JobName: "n", Minutes: 15, Input: "b", Output: "c", Prefix: "p"}
	if err != nil || string(in.ReplyTo) != "q" || string(in.Correlation) != "1" || *in.Request != want || in.Job != "0123456789ab" || in.name != "answer/1" {
		t.Errorf("%+v, %v", in, err)
	}
	if got := write(in.name, in); string(got.Value) != kept || got.Name != "answer/1" {
		t.Errorf("written as %s %s", got.Name, got.Value)
	}
	for value, want := range map[string]error{
		`{"version":2,"reply":{}}`: navvy.ErrUnsupported, `{"version":1}`: navvy.ErrCorrupt, `no`: navvy.ErrCorrupt,
	} {
		if _, err := readIntent(&records.Record{Name: "answer/1", Value: []byte(value)}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", value, err, want)
		}
	}
}
