package container_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/staging"
	"github.com/navvy-run/navvy/share/versitygwtest"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// storage is an S3 server that pods reach, and a namespace that has its account in a Secret.
type storage struct {
	*versitygwtest.Gateway
	namespace string
	options   container.Options
	said      *output // by the driver, on what goes wrong beside
	way       *way    // of pods to the server
}

// openStorage starts all that.
func openStorage(t *testing.T) *storage {
	t.Helper()
	cluster := kubetest.Open(t)
	s := &storage{Gateway: versitygwtest.Start(t), namespace: cluster.Namespace(t), said: &output{}}
	s.way = openWay(t, s.Address)
	address := cluster.Expose(t, s.way.address())
	s.options = container.Options{
		ImagePatience: time.Second, Logger: slog.New(slog.NewTextHandler(s.said, nil)), NavvyImage: cluster.NavvyImage(t),
		Buckets: container.Buckets{
			Server: staging.Server{Endpoint: "http://" + address, Key: versitygwtest.Key, Secret: versitygwtest.Secret},
			Here:   "http://" + s.Address, Secret: "account", TempDir: t.TempDir(), Patience: kubetest.Patience,
		},
	}
	s.secret(t, "account", versitygwtest.Secret)
	return s
}

// secret makes a Secret with the account.
func (s *storage) secret(t *testing.T, name, password string) {
	t.Helper()
	kubetest.Open(t).Admin().Must(t, http.MethodPost, "/api/v1/namespaces/"+s.namespace+"/secrets", `
metadata: {name: `+name+`}
stringData: {AWS_ACCESS_KEY_ID: `+versitygwtest.Key+`, AWS_SECRET_ACCESS_KEY: "`+password+`"}
`, nil)
}

// at is a bucket as this process has it.
func (s *storage) at(t *testing.T, bucket string) *share.Share {
	t.Helper()
	b, err := share.Open(t.Context(), s.URL(bucket), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// put makes an object in a bucket.
func (s *storage) put(t *testing.T, bucket, key, text string) {
	t.Helper()
	b := s.at(t, bucket)
	if err := b.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), key, strings.NewReader(text), nil); err != nil {
		t.Fatal(err)
	}
}

// get is what an object holds; empty if it is not there.
func (s *storage) get(t *testing.T, bucket, key string) string {
	t.Helper()
	var text bytes.Buffer
	if _, err := s.at(t, bucket).Copy(t.Context(), key, &text, nil); err != nil {
		t.Logf("no object %s: %v", key, err)
	}
	return text.String()
}

// way is a way to the server that can be closed.
type way struct {
	listener net.Listener
	mu       sync.Mutex
	closed   bool
	conns    map[net.Conn]bool
}

func openWay(t *testing.T, server string) *way {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &way{listener: l, conns: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.pass(c, server) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.close()
		all.Wait()
	})
	return w
}

func (w *way) address() string { return w.listener.Addr().String() }

func (w *way) pass(near net.Conn, server string) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	w.conns[near] = true
	w.mu.Unlock()
	go func() {
		_, _ = io.Copy(near, far)
		_ = near.Close()
	}()
	_, _ = io.Copy(far, near)
	w.mu.Lock()
	delete(w.conns, near)
	w.mu.Unlock()
}

// close cuts all and lets nobody through.
func (w *way) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for c := range w.conns {
		_ = c.Close()
	}
}

func (w *way) open() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = false
}

// staged is a script over the objects of bucket data, which leaves some in bucket results.
func staged(script string) *navvy.Spec {
	s := shell(script)
	s.Container.Buckets = navvy.Buckets{Input: "data", Output: "results", Prefix: "run/", InputDir: "/data/in", OutputDir: "/data/out"}
	return s
}

// A program that knows nothing of S3 finds the objects, and what it leaves is in the other
// bucket with its log. Nothing that the cluster shows tells the password.
func TestStaged(t *testing.T) {
	t.Parallel()
	s := openStorage(t)
	s.put(t, "data", "run/a.txt", "text a\n")
	s.put(t, "data", "run/sub/b.txt", "text b\n")
	s.put(t, "data", "other", "no\n")
	d := open(t, s.namespace, s.options)
	r, end, err := run(t, d, staged("cd /data/in; echo begun; find . -type f | sort; mkdir /data/out/d; cat a.txt sub/b.txt >/data/out/d/both; touch a.txt new; env | grep AWS_S"))
	if err != nil || end.Refusal != nil || end.Exit.Code != 1 { // of grep, which finds nothing
		t.Fatalf("ended as %+v (%+v), %v with %q", end, end.Refusal, err, r.out.text())
	}
	const said = "begun\n./a.txt\n./sub/b.txt\n"
	if got := r.out.text(); got != said {
		t.Errorf("wrote %q", got)
	}
	if got := s.get(t, "results", "run/-"+r.name()+".log"); got != said+"navvy: exit code 1\n" {
		t.Errorf("the log in the bucket is %q", got)
	}
	if got := s.get(t, "results", "run/d/both"); got != "" {
		t.Errorf("it failed and left %q", got)
	}
	r, end, err = run(t, d, staged("cat /data/in/a.txt /data/in/sub/b.txt >/data/out/both; chmod 600 /data/out/both; printf 'no end'"))
	if err != nil || end.Refusal != nil || end.Exit != (navvy.Exit{}) {
		t.Fatalf("ended as %+v (%+v), %v with %q", end, end.Refusal, err, r.out.text())
	}
	if got := s.get(t, "results", "run/both"); got != "text a\ntext b\n" {
		t.Errorf("it left %q", got)
	}
	if got := s.get(t, "results", "run/-"+r.name()+".log"); got != "no end" || r.out.text() != got {
		t.Errorf("the log in the bucket is %q, that of the task %q", got, r.out.text())
	}
	for _, path := range []string{"/apis/batch/v1/namespaces/" + s.namespace + "/jobs", "/api/v1/namespaces/" + s.namespace + "/pods", "/api/v1/namespaces/" + s.namespace + "/events"} {
		var all any
		kubetest.Open(t).Admin().Must(t, http.MethodGet, path, "", &all)
		hidden(t, path, all)
	}
	hidden(t, "the log of the driver", s.said.text())
}

// hidden fails if something holds the password.
func hidden(t *testing.T, what string, v any) {
	t.Helper()
	text := slog.AnyValue(v).String()
	for _, secret := range []string{versitygwtest.Secret, base64.StdEncoding.EncodeToString([]byte(versitygwtest.Secret))} {
		if strings.Contains(text, secret) {
			t.Errorf("%s tells the password", what)
		}
	}
	if len(text) < 2 && what != "the log of the driver" {
		t.Errorf("%s is %q", what, text)
	}
}

// What keeps the objects from being copied fails the task, in words and in its log.
func TestNotStaged(t *testing.T) {
	t.Parallel()
	s := openStorage(t)
	s.put(t, "data", "run/a.txt", "text\n")
	s.secret(t, "wrong", "another")
	for name, c := range map[string]struct {
		change func(*container.Options, *navvy.Spec)
		reason navvy.Reason
		words  string
	}{
		"no bucket":    {func(_ *container.Options, n *navvy.Spec) { n.Container.Buckets.Input = "nowhere" }, navvy.ReasonInput, "there is no bucket nowhere"},
		"no object":    {func(_ *container.Options, n *navvy.Spec) { n.Container.Buckets.Prefix = "none/" }, navvy.ReasonInput, `no object whose name begins with "none/"`},
		"wrong secret": {func(o *container.Options, _ *navvy.Spec) { o.Buckets.Secret = "wrong" }, navvy.ReasonPermission, "SignatureDoesNotMatch"},
		"no secret":    {func(o *container.Options, _ *navvy.Spec) { o.Buckets.Secret = "nowhere" }, navvy.ReasonStart, `secret "nowhere" not found`},
		"no image":     {func(o *container.Options, _ *navvy.Spec) { o.NavvyImage = "127.0.0.1:9/navvy:1" }, navvy.ReasonImage, "connection refused"},
		"a link": {func(_ *container.Options, n *navvy.Spec) {
			n.Container.Command.Args[0] = "ln -s /etc/passwd /data/out/x"
		}, navvy.ReasonFiles, "no regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, n := s.options, staged("echo it runs")
			c.change(&o, n)
			r, end, err := run(t, open(t, s.namespace, o), n)
			wantRefusal(t, end, err, c.reason, c.words)
			log := s.get(t, "results", n.Container.Buckets.Prefix+"-"+r.name()+".log")
			if !strings.HasPrefix(log, "navvy: ") || !strings.Contains(log, c.words) {
				t.Errorf("the log in the bucket is %q", log)
			}
		})
	}
}

// Buckets of containers that know them are in their environment, in both generations, where
// the user's own word counts. Their account comes from the Secret.
func TestBucketEnvironment(t *testing.T) {
	t.Parallel()
	s := openStorage(t)
	d := open(t, s.namespace, s.options)
	const show = `env | grep -E 'BUCKET|MSTC|FILE_PREFIX|AWS_A|MINIO_SERVICE_HOST' | sort; echo ${#AWS_SECRET_ACCESS_KEY}`
	n := shell(show)
	n.Container.Buckets = navvy.Buckets{Input: "data", Prefix: "$(A)"}
	n.Container.Command.Env = []string{"MINIO_SERVICE_HOST=mine"}
	r, end, err := run(t, d, n)
	want := "AWS_ACCESS_KEY_ID=navvy-test\nFILE_PREFIX=$(A)\nINPUT_BUCKET=data\nMINIO_SERVICE_HOST=mine\nMSTC_JOB=true\nOUTPUT_BUCKET=data\n17\n"
	if got := r.out.text(); err != nil || end.Exit != (navvy.Exit{}) || got != want {
		t.Errorf("ended as %+v, %v with %q, want %q", end, err, got, want)
	}
	if got := s.get(t, "data", "$(A)-"+r.name()+".log"); got != want {
		t.Errorf("the log in the bucket is %q", got)
	}
	n = shell(show)
	server := s.options.Buckets.Server.Endpoint
	n.Container.Buckets = navvy.Buckets{Input: server + "/data", Output: server + "/results"}
	n.Container.Command.Env = []string{"MINIO_SERVICE_HOST=", "AWS_ACCESS_KEY_ID=mine"}
	r, end, err = run(t, d, n)
	want = "AWS_ACCESS_KEY_ID=mine\nINPUT_BUCKET_URL=" + server + "/data\nMINIO_SERVICE_HOST=\nOUTPUT_BUCKET_URL=" + server + "/results\n17\n"
	if got := r.out.text(); err != nil || end.Exit != (navvy.Exit{}) || got != want {
		t.Errorf("ended as %+v, %v with %q, want %q", end, err, got, want)
	}
	if got := s.get(t, "results", r.name()+".log"); got != want {
		t.Errorf("the log in the bucket is %q", got)
	}
}

// atStageOut starts an attempt whose program ends when pods have no way to the server any more.
func (s *storage) atStageOut(t *testing.T, d *container.Driver) *trial {
	t.Helper()
	s.put(t, "data", "run/a.txt", "text\n")
	r := newTrial(staged("cp /data/in/a.txt /data/out; echo begun; while wget -S -O - " + s.options.Buckets.Server.Endpoint + " 2>&1 | grep -q HTTP/; do sleep 0.1; done"))
	r.start(t, d)
	return r
}

// toStageOut waits until it has begun, lets it end by closing the way, and returns when its
// outputs are to be put into their bucket.
func (s *storage) toStageOut(t *testing.T, r *trial) {
	t.Helper()
	r.await(t, "begun")
	s.way.close()
	kubetest.Until(t, "its outputs are on their way", func() bool { return s.runs(t, r, "stage-out") })
}

// runs tells whether a container of the attempt runs.
func (s *storage) runs(t *testing.T, r *trial, name string) bool {
	var list struct {
		Items []struct {
			Status struct {
				ContainerStatuses []struct {
					Name  string
					State map[string]any
				}
			}
		}
	}
	kubetest.Open(t).Admin().Must(t, http.MethodGet,
		"/api/v1/namespaces/"+s.namespace+"/pods?labelSelector=batch.kubernetes.io/job-name%3D"+r.name(), "", &list)
	for _, p := range list.Items {
		for _, c := range p.Status.ContainerStatuses {
			if c.Name == name && c.State["running"] != nil {
				return true
			}
		}
	}
	return false
}

// Whoever takes an attempt over while its outputs are on their way sees it to its end, log
// and all.
func TestAdoptOutputs(t *testing.T) {
	t.Parallel()
	s := openStorage(t)
	first := s.atStageOut(t, open(t, s.namespace, s.options))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := first.execution.Wait(ctx)
		ended <- err
	}()
	s.toStageOut(t, first)
	cancel() // as if its navvy had died
	if err := <-ended; err == nil {
		t.Error("it has ended")
	}
	second := first.again().start(t, open(t, s.namespace, s.options))
	if second.name() != first.name() {
		t.Fatalf("%s is not taken over by %s", first.name(), second.name())
	}
	w := second.wait(t)
	second.await(t, "begun\n")
	select {
	case <-w.done:
		t.Fatalf("it ended as %+v, %v, and its outputs are nowhere", w.end, w.err)
	default:
	}
	s.way.open()
	<-w.done
	if w.err != nil || w.end.Refusal != nil || w.end.Exit != (navvy.Exit{}) {
		t.Errorf("ended as %+v (%+v), %v", w.end, w.end.Refusal, w.err)
	}
	if got := s.get(t, "results", "run/a.txt"); got != "text\n" {
		t.Errorf("it left %q", got)
	}
	if got := s.get(t, "results", "run/-"+second.name()+".log"); got != "begun\n" {
		t.Errorf("the log in the bucket is %q", got)
	}
}

// An attempt can be stopped while its outputs are on their way: it has not succeeded.
func TestStopOutputs(t *testing.T) {
	t.Parallel()
	s := openStorage(t)
	r := s.atStageOut(t, open(t, s.namespace, s.options))
	w := r.wait(t)
	s.toStageOut(t, r)
	if err := r.execution.Stop(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	<-w.done
	wantRefusal(t, w.end, w.err, navvy.ReasonStopped, "stopped")
	if got := s.get(t, "results", "run/-"+r.name()+".log"); got != "begun\nnavvy: stopped\n" {
		t.Errorf("the log in the bucket is %q", got)
	}
}

// So does its time run on.
func TestLateOutputs(t *testing.T) {
	t.Parallel()
	s := openStorage(t)
	s.put(t, "data", "run/a.txt", "text\n")
	s.options.Buckets.Server.Endpoint = "http://127.0.0.1:9"
	n := shell("echo begun; touch /out/a")
	n.Container.Buckets = navvy.Buckets{Output: "results", OutputDir: "/out"}
	n.Timeout = 20 * time.Second
	_, end, err := run(t, open(t, s.namespace, s.options), n)
	wantRefusal(t, end, err, navvy.ReasonTimeout, "longer than 20s")
}

// A server that is away for longer than it is waited for is nobody's fault: the task is given
// back, and nothing of the attempt stays.
func TestStorageAway(t *testing.T) {
	t.Parallel()
	s := openStorage(t)
	s.options.Buckets.Server.Endpoint, s.options.Buckets.Patience = "http://127.0.0.1:9", time.Second
	_, end, err := run(t, open(t, s.namespace, s.options), staged("echo it runs"))
	wantAway(t, end, err, "its inputs could not be copied: ")
	wantAway(t, end, err, "connection refused")
	kubetest.Until(t, "its Job is gone", func() bool { return len(jobs(t, s.namespace)) == 0 })
}

// A result does not depend on where its log goes.
func TestLogAway(t *testing.T) {
	t.Parallel()
	s := openStorage(t)
	s.options.Buckets.Here, s.options.Buckets.Patience = "http://127.0.0.1:9", time.Second
	d := open(t, s.namespace, s.options)
	n := shell("echo it runs; exit 4")
	n.Container.Buckets = navvy.Buckets{Input: "data"}
	r, end, err := run(t, d, n)
	if err != nil || end.Exit.Code != 4 || r.out.text() != "it runs\n" {
		t.Errorf("ended as %+v, %v with %q", end, err, r.out.text())
	}
	kubetest.Until(t, "it is said", func() bool { return strings.Contains(s.said.text(), "the log of an attempt is not in its bucket") })
}

// The command line makes such containers, each with a prefix of its own.
func TestMapBuckets(t *testing.T) {
	t.Parallel()
	s := openStorage(t)
	cluster := kubetest.Open(t)
	s.put(t, "data", "a/text", "one\n")
	s.put(t, "data", "b/text", "two\n")
	cmd := exec.CommandContext(t.Context(), cluster.Navvy(t), "--data", t.TempDir()+"/data", "map", "--image", kubetest.Image,
		"--input-bucket", "data", "--output-bucket", "results", "--bucket-prefix", "{}/", "--input-dir", "/in", "--output-dir", "/out",
		"--env", "IN=/in", "-S", "tr a-z A-Z <$IN/text >/out/upper; cat $IN/text", ":::", "a", "b")
	cmd.Env = []string{
		"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin", "KUBECONFIG=" + cluster.Admin().Kubeconfig, "NAVVY_KUBE_NAMESPACE=" + s.namespace,
		"NAVVY_BUCKETS=" + s.options.Buckets.Server.Endpoint, "NAVVY_BUCKETS_HERE=" + s.options.Buckets.Here, "NAVVY_BUCKET_SECRET=account",
		"NAVVY_IMAGE=" + cluster.NavvyImage(t), "AWS_ACCESS_KEY_ID=" + versitygwtest.Key, "AWS_SECRET_ACCESS_KEY=" + versitygwtest.Secret,
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil || string(out) != "one\ntwo\n" {
		t.Errorf("%v: %q, %s", err, out, said.String())
	}
	if one, two := s.get(t, "results", "a/upper"), s.get(t, "results", "b/upper"); one != "ONE\n" || two != "TWO\n" {
		t.Errorf("they left %q and %q", one, two)
	}
	var logs []string
	for f, err := range s.at(t, "results").List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f.Key, ".log") {
			logs = append(logs, f.Key)
		}
	}
	if len(logs) != 2 || !strings.HasPrefix(logs[0], "a/-navvy-") || !strings.HasPrefix(logs[1], "b/-navvy-") {
		t.Errorf("the logs are %q", logs)
	}
}
