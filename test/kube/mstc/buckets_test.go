package mstc

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/versitygwtest"
)

// alignImage is the image of testdata/align.
const alignImage = "local.test/align:1"

// storage is an S3 server that pods reach, and that a worker knows by the environment of the
// contract.
type storage struct {
	*versitygwtest.Gateway
	url string // as pods reach it
}

// openStorage starts a server, puts its account into a Secret of the namespace, and gives the
// node the image that uses it.
func (s *site) openStorage() *storage {
	s.Helper()
	g := versitygwtest.Start(s)
	st := &storage{Gateway: g, url: "http://" + s.cluster.Expose(s, g.Address)}
	s.cluster.Admin().Must(s, http.MethodPost, "/api/v1/namespaces/"+s.namespace+"/secrets", `
metadata: {name: account}
stringData: {AWS_ACCESS_KEY_ID: `+versitygwtest.Key+`, AWS_SECRET_ACCESS_KEY: "`+versitygwtest.Secret+`"}
`, nil)
	path := filepath.Join(s.dir, "align")
	build := exec.CommandContext(s.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", path, "./testdata/align")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		s.Fatalf("build align: %v\n%s", err, out)
	}
	s.cluster.AddProgram(s, alignImage, path)
	return st
}

// environ is what a worker is told of the server: as the older one is, and the ways that are
// not the older one's.
func (st *storage) environ(scratch string) []string {
	host, port, _ := net.SplitHostPort(strings.TrimPrefix(st.url, "http://"))
	return []string{
		"MINIO_SERVICE_HOST=" + host, "MINIO_SERVICE_PORT=" + port, "SCRATCH_DIR=" + scratch,
		"MINIO_ROOT_USER=" + versitygwtest.Key, "MINIO_ROOT_PASSWORD=" + versitygwtest.Secret,
		"NAVVY_BUCKETS_HERE=http://" + st.Address, "NAVVY_BUCKET_SECRET=account",
	}
}

// stored are requests of an image that uses buckets. S3 stands for the server's URL, and JOB
// for the second word of an answer, which clients take as the job's own name.
var stored = map[string]struct {
	request           string // less the image
	object, input     string // BUCKET/KEY, and what it holds before
	output, text      string // BUCKET/KEY, and what it holds afterwards; empty for nothing
	log, says         string // BUCKET/KEY of the log, and what it holds; empty for none that a client could find
	result            string
	state, reason, ex string
}{
	"second": {
		request: `"jobName": "second", "timeOut": 9, "inputBucket": "reads", "outputBucket": "aligned", "prefix": "s1"`,
		object:  "reads/s1-input", input: "acgt\n", output: "aligned/s1-output", text: "ACGT\n",
		log: "aligned/s1-JOB.log", says: "^MSTC_JOB=true\nINPUT_BUCKET=reads\nOUTPUT_BUCKET=aligned\nFILE_PREFIX=s1\nread 5 bytes\nwrote 5 bytes\n$",
		result: `^Job second` + uuid + ` complete\.$`, state: "succeeded", ex: "0",
	},
	"second, one bucket": {
		request: `"jobName": "one", "timeOut": 9, "inputBucket": "one"`,
		object:  "one/input", input: "acgt\n", output: "one/output", text: "ACGT\n",
		log: "one/JOB.log", says: "^MSTC_JOB=true\nINPUT_BUCKET=one\nOUTPUT_BUCKET=one\nFILE_PREFIX=\nread 5 bytes\nwrote 5 bytes\n$",
		result: `^Job one` + uuid + ` complete\.$`, state: "succeeded", ex: "0",
	},
	// The bucket for its log is not there.
	"second, exit": {
		request: `"jobName": "exit", "timeOut": 9, "inputBucket": "exits", "outputBucket": "made", "prefix": "e"`,
		object:  "exits/e-input", input: "exit 3 no such genome\n",
		log: "made/e-JOB.log", says: "(?s)^.*no such genome\n.*navvy: exit code 3\n$",
		result: `^Job exit` + uuid + ` failed: exit code 3$`, state: "failed", reason: "exit", ex: "3",
	},
	"second, memory": {
		request: `"jobName": "memory", "timeOut": 9, "inputBucket": "large", "prefix": "m"`,
		object:  "large/m-input", input: "memory\n",
		log: "large/m-JOB.log", says: "(?s)\nread 7 bytes\nnavvy: out of memory\n$",
		result: `^Job memory` + uuid + ` failed: out of memory`, state: "failed", reason: "oom", ex: "137",
	},
	"stubborn": {
		request: `"jobName": "stubborn", "timeOut": 1, "inputBucket": "slow", "prefix": "t"`,
		object:  "slow/t-input", input: "wait\n",
		log: "slow/t-JOB.log", says: "(?s)\nread 5 bytes\nnavvy: ran longer than .*\n$",
		result: `^Job stubborn` + uuid + ` timed out after 1 minutes$`, state: "failed", reason: "timeout", ex: "none",
	},
	"second, no input": {
		request: `"jobName": "empty", "timeOut": 9, "inputBucket": "empty", "prefix": "n"`,
		object:  "empty/other", input: "acgt\n",
		log: "empty/n-JOB.log", says: "(?s)align: .*NoSuchKey.*navvy: exit code 1\n$",
		result: `^Job empty` + uuid + ` failed: exit code 1$`, state: "failed", reason: "exit", ex: "1",
	},
	"first, buckets": {
		request: `"jobName": "first", "inputBucketUrl": "S3/first", "outputBucketUrl": "S3/second"`,
		object:  "first/input", input: "acgt\n", output: "second/output", text: "ACGT\n",
		result: "^INPUT_BUCKET_URL=S3/first\nOUTPUT_BUCKET_URL=S3/second\nread 5 bytes\nwrote 5 bytes\n$", state: "succeeded", ex: "0",
	},
	"first, exit": {
		request: `"inputBucketUrl": "S3/alone"`,
		object:  "alone/input", input: "exit 3 no such genome\n",
		log: "alone/JOB.log", says: "(?s)^.*no such genome\n.*navvy: exit code 3\n$",
		result: "(?s)^Job navvy" + uuid + " failed: exit code 3\n.*OUTPUT_BUCKET_URL=S3/alone\n", state: "failed", reason: "exit", ex: "3",
	},
}

// fill makes the buckets and their objects, and gives the requests by their ids.
func (st *storage) fill(t *testing.T) map[string]string {
	t.Helper()
	requests := map[string]string{}
	for id, c := range stored {
		requests[id] = strings.ReplaceAll(`{"image": "`+alignImage+`", `+c.request+`}`, "S3", st.url)
		bucket, key, _ := strings.Cut(c.object, "/")
		b := st.at(t, bucket)
		if err := b.Make(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Put(t.Context(), key, strings.NewReader(c.input), nil); err != nil {
			t.Fatal(err)
		}
		if bucket, _, _ = strings.Cut(c.output, "/"); bucket != "" {
			if err := st.at(t, bucket).Make(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return requests
}

// at is a bucket as this process has it.
func (st *storage) at(t *testing.T, bucket string) *share.Share {
	t.Helper()
	b, err := share.Open(t.Context(), st.URL(bucket), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// get is what an object BUCKET/KEY holds.
func (st *storage) get(t *testing.T, object string) (string, error) {
	t.Helper()
	bucket, key, _ := strings.Cut(object, "/")
	var text bytes.Buffer
	_, err := st.at(t, bucket).Copy(t.Context(), key, &text, nil)
	return text.String(), err
}

// check checks what clients are told, and what they find in their buckets.
func (st *storage) check(t *testing.T, answers map[string]*answer) {
	t.Helper()
	for id, c := range stored {
		a := answers[id]
		if a == nil {
			t.Errorf("%s: no answer", id)
			continue
		}
		code := "none"
		if a.Body.ExitCode != nil {
			code = fmt.Sprint(*a.Body.ExitCode)
		}
		if !st.fits(c.result, a.Body.Result) || a.Body.State != c.state || a.Body.Reason != c.reason || code != c.ex {
			t.Errorf("%s: %+v, exit code %s; want %+v", id, a.Body, code, c)
			continue
		}
		if c.output != "" {
			if got, err := st.get(t, c.output); err != nil || got != c.text {
				t.Errorf("%s: it left %q, %v", id, got, err)
			}
		}
		if c.log == "" {
			continue
		}
		log := strings.ReplaceAll(c.log, "JOB", strings.Fields(a.Body.Result)[1])
		if got, err := st.get(t, log); err != nil || !st.fits(c.says, got) {
			t.Errorf("%s: its log %s is %q, %v; want %q", id, log, got, err, c.says)
		}
	}
}

// fits tells whether a pattern fits a text, where S3 stands for the server's URL.
func (st *storage) fits(pattern, text string) bool {
	return regexp.MustCompile(strings.ReplaceAll(pattern, "S3", regexp.QuoteMeta(st.url))).MatchString(text)
}

// running are the processes on this machine that belong to Jobs whose names begin so: their
// host is their pod.
func running(t *testing.T, job string) (list []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, _ := os.ReadFile(f) // it may have ended
		if bytes.Contains(append([]byte{0}, text...), []byte("\x00HOSTNAME="+job+"-")) {
			list = append(list, filepath.Dir(f))
		}
	}
	return list
}

// ended checks that nothing runs any more of the Job that an answer names.
func (a *answer) ended(t *testing.T) {
	t.Helper()
	if a == nil {
		return // that is said elsewhere
	}
	if list := running(t, strings.Fields(a.Body.Result)[1]); len(list) > 0 {
		t.Errorf("its client was told %q, and there are still %v", a.Body.Result, list)
	}
}
