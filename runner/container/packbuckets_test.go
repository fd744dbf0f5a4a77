package container_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// Tasks that share a pod have each their own words on buckets, and a log of its own there, with
// both streams, however it ended; the account is the pod's.
func TestPackBuckets(t *testing.T) {
	t.Parallel()
	s := openStorage(t)
	s.options.Keep = time.Second
	s.options.Buckets.Fill = func(t *driver.Task) (input, output, prefix string, err error) {
		return "data", "results", fmt.Sprintf("$(A)%d", t.ID.Index), nil
	}
	one, other := open(t, s.namespace, s.options), open(t, s.namespace, s.options)
	n := shared(3, `env | grep -E 'BUCKET|MSTC|FILE_PREFIX|AWS_A|MINIO_SERVICE_HOST' | sort; echo ${#AWS_SECRET_ACCESS_KEY} >&2
		while [ "$NAVVY_TASK" = 1 ] && wget -S -O - "$AWS_ENDPOINT_URL" 2>&1 | grep -q HTTP/; do sleep 0.1; done; exit "$NAVVY_TASK"`)
	n.Container.Buckets = navvy.Buckets{Input: "data", Prefix: "{}"}
	n.Container.Command.Env = []string{"MINIO_SERVICE_HOST=mine"}
	list := newJob(n, 3)
	startAll(t, one, list)
	if end, err := list[0].end(t); err != nil || end.Exit != (navvy.Exit{}) {
		t.Errorf("the first ended as %+v, %v", end, err)
	}
	list[1].await(t, "FILE_PREFIX")
	again := list[1].again() // another worker has it, and its log
	again.task.Attempt.Number = 2
	again.start(t, other)
	w := again.wait(t)
	again.await(t, "FILE_PREFIX")
	list[1].stop(t)
	s.way.close()
	<-w.done
	if w.err != nil || w.end.Exit.Code != 1 {
		t.Errorf("the second ended as %+v, %v", w.end, w.err)
	}
	if end, err := list[2].end(t); err != nil || end.Exit.Code != 2 {
		t.Errorf("the third ended as %+v, %v", end, err)
	}
	for i := range list {
		want := fmt.Sprintf("AWS_ACCESS_KEY_ID=navvy-test\nFILE_PREFIX=$(A)%d\nINPUT_BUCKET=data\nMINIO_SERVICE_HOST=mine\nMSTC_JOB=true\nOUTPUT_BUCKET=results\n", i)
		if i > 0 {
			want += fmt.Sprintf("navvy: exit code %d\n", i)
		}
		var logs []string // but for what is from the other stream, which is anywhere in them
		for f, err := range s.at(t, "results").List(t.Context(), fmt.Sprintf("$(A)%d-", i)) {
			if err != nil {
				t.Fatal(err)
			}
			logs = append(logs, strings.Replace(s.get(t, "results", f.Key), "17\n", "", 1))
		}
		if len(logs) != 1 || logs[0] != want {
			t.Errorf("the logs of task %d in the bucket are %q, want %q", i, logs, want)
		}
	}
	if names := jobs(t, s.namespace); len(names) != 1 {
		t.Errorf("there are Jobs %v", names)
	}
}
