package container

import (
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/podtemplate"
	"github.com/navvy-run/navvy/runner/driver"
)

func taskNamed(name string) *driver.Task {
	return &driver.Task{
		ID: navvy.TaskID{Job: "0123456789ab", Index: 3}, Token: "t", Env: []string{"B=$(A)"},
		Spec: &navvy.Spec{
			Limits:    navvy.Limits{CPUs: 1500, Memory: 1 << 30},
			Resources: map[string]int64{navvy.ResourceGPU: 2},
			Container: &navvy.Container{Image: "img", Name: name, Command: navvy.Command{Env: []string{"A=1", "B=2"}}},
		},
	}
}

// The name is that of the container, whoever makes the attempt.
func TestName(t *testing.T) {
	t.Parallel()
	task := taskNamed("Align.2")
	task.Round, task.Failed = 1, 2
	name := nameOf(task)
	task.Attempt, task.Token = navvy.AttemptID{Number: 9, Epoch: 9}, "another"
	if got := nameOf(task); got != name || got != task.Spec.Container.JobName(task.ID, 1, 2) {
		t.Errorf("named %s, then %s", name, got)
	}
}

func TestManifest(t *testing.T) {
	t.Parallel()
	d := &Driver{opts: Options{Instance: "navvy"}, home: "n"}
	var err error
	d.template, err = podtemplate.Parse([]byte(`
metadata: {labels: {team: blue, app.kubernetes.io/managed-by: somebody}}
spec:
  serviceAccountName: mstc
  restartPolicy: Always
  nodeSelector: {disk: fast}
  containers: [{name: main, image: other, command: [evil], args: [evil], securityContext: {runAsUser: 1000}}, {name: beside, image: b}]
`))
	if err != nil {
		t.Fatal(err)
	}
	job, err := d.job(taskNamed("x"), escaped([]string{"$(A)", "plain"}))
	if err != nil {
		t.Fatal(err)
	}
	pod := job.Spec.Template
	c := pod.Spec.Containers[0]
	if c.Image != "img" || len(c.Command) != 0 || strings.Join(c.Args, " ") != "$$(A) plain" || *c.SecurityContext.RunAsUser != 1000 {
		t.Errorf("the container is %+v", c)
	}
	if pod.Spec.RestartPolicy != "Never" || pod.Spec.ServiceAccountName != "mstc" || pod.Spec.NodeSelector["disk"] != "fast" || len(pod.Spec.Containers) != 2 {
		t.Errorf("the pod is %+v", pod.Spec)
	}
	if pod.Labels["team"] != "blue" || pod.Labels[labelManagedBy] != managedBy {
		t.Errorf("the labels are %v", pod.Labels)
	}
	if _, err := podtemplate.Parse([]byte("spec: {nodeSelecter: {a: b}}")); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("an unknown field is %v", err)
	}
}

func TestContainer(t *testing.T) {
	t.Parallel()
	c := new(Driver).container(taskNamed("x"), nil)
	for _, list := range []string{c.Resources.Limits.Cpu().String(), c.Resources.Requests.Cpu().String()} {
		if list != "1500m" {
			t.Errorf("%s processors", list)
		}
	}
	if gpus := c.Resources.Limits[gpuResource]; gpus.Value() != 2 || c.Resources.Limits.Memory().Value() != 1<<30 {
		t.Errorf("limits are %v", c.Resources.Limits)
	}
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = e.Value
	}
	if env["A"] != "1" || env["B"] != "$$(A)" || env["NAVVY_TASK"] != "3" {
		t.Errorf("the environment is %v", env)
	}
}
