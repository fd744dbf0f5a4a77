package container

import (
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/podtemplate"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/share/staging"
)

// stagedPod has the main container between those that copy; what has ended with which code.
func stagedPod(codes map[string]int32, changes ...func(*corev1.Pod)) *corev1.Pod {
	p := podThat()
	p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: stageIn}, {Name: mainContainer}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: stageOut}}
	for name, code := range codes {
		find(p, name).State.Terminated = &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: at(5), Reason: "Error", Message: "words"}
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

// An attempt that is staged has succeeded when its outputs are where they belong.
func TestJudgeStaged(t *testing.T) {
	t.Parallel()
	free := &batchv1.Job{}
	const away, still = "away", "still"
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		view view
		want string
		exit navvy.Exit
	}{
		"begins":                   {stagedPod(nil), view{}, still, navvy.Exit{}},
		"inputs are there":         {stagedPod(map[string]int32{stageIn: 0}), view{}, still, navvy.Exit{}},
		"no inputs":                {stagedPod(map[string]int32{stageIn: staging.CodeFiles}), view{}, "input", navvy.Exit{}},
		"no right to inputs":       {stagedPod(map[string]int32{stageIn: staging.CodeDenied}), view{}, "permission", navvy.Exit{}},
		"nobody has inputs":        {stagedPod(map[string]int32{stageIn: staging.CodeUnavailable}), view{}, away, navvy.Exit{}},
		"inputs by another navvy":  {stagedPod(map[string]int32{stageIn: 2}), view{}, "start", navvy.Exit{}},
		"it fails":                 {stagedPod(map[string]int32{stageIn: 0, mainContainer: 3}), view{}, "", navvy.Exit{Code: 3}},
		"outputs are on their way": {stagedPod(map[string]int32{stageIn: 0, mainContainer: 0}), view{}, still, navvy.Exit{}},
		"all is done":              {stagedPod(map[string]int32{stageIn: 0, mainContainer: 0, stageOut: 0}), view{}, "", navvy.Exit{}},
		"bad outputs":              {stagedPod(map[string]int32{stageIn: 0, mainContainer: 0, stageOut: staging.CodeFiles}), view{}, "files", navvy.Exit{}},
		"no right to outputs":      {stagedPod(map[string]int32{stageIn: 0, mainContainer: 0, stageOut: staging.CodeDenied}), view{}, "permission", navvy.Exit{}},
		"nobody takes outputs":     {stagedPod(map[string]int32{stageIn: 0, mainContainer: 0, stageOut: staging.CodeUnavailable}), view{}, away, navvy.Exit{}},
		"stopped at its outputs":   {stagedPod(map[string]int32{stageIn: 0, mainContainer: 0, stageOut: 1}, deletedAt(4)), view{stopped: true}, "stopped", navvy.Exit{}},
		"stopping at its outputs":  {stagedPod(map[string]int32{stageIn: 0, mainContainer: 0}, deletedAt(4)), view{stopped: true}, still, navvy.Exit{}},
		"evicted at its outputs":   {stagedPod(map[string]int32{stageIn: 0, mainContainer: 0, stageOut: 1}, disruptedAt(4), deletedAt(4)), view{}, away, navvy.Exit{}},
		"deleted at its outputs":   {stagedPod(map[string]int32{stageIn: 0, mainContainer: 0, stageOut: 143}, deletedAt(4)), view{}, "deleted", navvy.Exit{}},
	} {
		v, _ := judge(free, c.pod, &c.view)
		got := ""
		switch {
		case v == nil:
			got = still
		case v.away != "":
			got = away
		case v.end.Refusal != nil:
			got = string(v.end.Refusal.Reason)
		}
		if got != c.want || v != nil && v.end.Exit != c.exit {
			t.Errorf("%s: judged as %+v, want %q, %+v", name, v, c.want, c.exit)
		}
	}
}

// What is copied is told to who asks why nothing happens.
func TestWhyStaging(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{stageIn: "inputs are being copied", stageOut: "outputs are being copied", mainContainer: ""} {
		p := stagedPod(nil, func(p *corev1.Pod) {
			find(p, mainContainer).State.Waiting = &corev1.ContainerStateWaiting{}
			find(p, name).State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		})
		if got := whyWaiting(p); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("at %s: %q", name, got)
		}
	}
}

// withBuckets is a driver that knows an S3 server, and a task that has buckets.
func withBuckets(t *testing.T, b navvy.Buckets, template string) (*Driver, *driver.Task) {
	t.Helper()
	d := &Driver{opts: Options{Instance: "navvy", NavvyImage: "navvy:1"}, home: "n"}
	d.opts.Buckets = Buckets{
		Server: staging.Server{Endpoint: "http://minio:9000", Key: "k", Secret: "s3cret"}, Secret: "account", Patience: time.Minute,
	}
	var err error
	if d.template, err = podtemplate.Parse([]byte(template)); err != nil {
		t.Fatal(err)
	}
	task := taskNamed("x")
	task.Spec.Container.Buckets = b
	return d, task
}

// The main container comes between those that copy, with what the pod template says of it.
func TestStageManifest(t *testing.T) {
	t.Parallel()
	b := navvy.Buckets{Input: "data", Prefix: "$(A)/", InputDir: "/in", OutputDir: "/out"}
	d, task := withBuckets(t, b, `spec: {initContainers: [{name: before, image: i}], containers: [{name: main, securityContext: {runAsUser: 7}}]}`)
	job, err := d.job(task, []string{"x"})
	if err != nil {
		t.Fatal(err)
	}
	pod := job.Spec.Template.Spec
	var names []string
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		names = append(names, c.Name)
		if c.Name != "before" && *c.SecurityContext.RunAsUser != 7 {
			t.Errorf("%s has %+v", c.Name, c.SecurityContext)
		}
	}
	if got := strings.Join(names, " "); got != "before stage-in main stage-out" || len(pod.Containers) != 1 || len(pod.Volumes) != 2 {
		t.Errorf("%s with %d volumes", got, len(pod.Volumes))
	}
	if c := pod.InitContainers[2]; len(c.VolumeMounts) != 2 || c.Resources.Limits.Memory().Value() != 1<<30 || c.Args[0] != "x" {
		t.Errorf("main is %+v", c)
	}
	if got := strings.Join(pod.InitContainers[1].Args, " "); !strings.HasPrefix(got, "stage in --bucket=data --prefix=$$(A)/ --dir=/stage --patience=1m0s") {
		t.Errorf("inputs come by %s", got)
	}
}

// What runs beside the main container cannot run beside what uploads.
func TestStageBeside(t *testing.T) {
	t.Parallel()
	d, task := withBuckets(t, navvy.Buckets{Input: "data", InputDir: "/in", OutputDir: "/out"}, `spec: {containers: [{name: beside, image: i}]}`)
	if _, err := d.job(task, nil); err == nil || !strings.Contains(err.Error(), "containers beside main") {
		t.Errorf("with a container beside: %v", err)
	}
	task.Spec.Container.Buckets.OutputDir = ""
	if job, err := d.job(task, nil); err != nil || len(job.Spec.Template.Spec.Containers) != 2 {
		t.Errorf("with one beside, and no outputs: %v", err)
	}
}

// Nobody but the server that we know is asked for anything with our account, by us or by
// what runs in the pod.
func TestPlan(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		buckets navvy.Buckets
		reason  navvy.Reason
		ours    bool
		log     string // how its object's name begins
	}{
		"a name":          {navvy.Buckets{Input: "data"}, "", true, "x-"},
		"a prefix":        {navvy.Buckets{Input: "data", Prefix: "p"}, "", true, "p-x-"},
		"a URL of ours":   {navvy.Buckets{Input: "http://minio:9000/data", InputDir: "/in"}, "", true, "x-"},
		"another's":       {navvy.Buckets{Input: "http://other:9000/data"}, "", false, "x-"},
		"another's files": {navvy.Buckets{Input: "http://other:9000/data", InputDir: "/in"}, "start", false, ""},
		"one of each":     {navvy.Buckets{Input: "http://minio:9000/data", Output: "http://other:9000/data"}, "", false, "x-"},
		"no name":         {navvy.Buckets{Input: "No"}, "input", false, ""},
		"a way out":       {navvy.Buckets{Input: "data", Prefix: "../"}, "input", false, ""},
	} {
		d, task := withBuckets(t, c.buckets, "")
		p, refusal := d.plan(task)
		switch {
		case c.reason != "":
			if refusal == nil || refusal.Reason != c.reason {
				t.Errorf("%s: %+v, want %s", name, refusal, c.reason)
			}
		case refusal != nil || p.ours != c.ours || !strings.HasPrefix(p.logName(), c.log) || !strings.HasSuffix(p.logName(), ".log"):
			t.Errorf("%s: %+v, %v", name, p, refusal)
		default:
			told := slices.ContainsFunc(p.environ(nil), func(v corev1.EnvVar) bool { return v.ValueFrom != nil })
			if want := c.ours && !p.Staged(); told != want {
				t.Errorf("%s: the container has the account: %t, want %t", name, told, want)
			}
		}
	}
}

// Where no server is known nobody is told the account, which is of none then.
func TestPlanWithoutServer(t *testing.T) {
	t.Parallel()
	for _, input := range []string{"data", "http://other:9000/data"} {
		d, task := withBuckets(t, navvy.Buckets{Input: input}, "")
		d.opts.Buckets.Server = staging.Server{}
		p, refusal := d.plan(task)
		if refusal != nil {
			t.Fatal(refusal)
		}
		for _, v := range p.environ(nil) {
			if v.ValueFrom != nil {
				t.Errorf("input %s: the container has %s of Secret %s", input, v.Name, v.ValueFrom.SecretKeyRef.Name)
			}
		}
	}
}
