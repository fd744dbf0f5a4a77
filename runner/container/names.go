package container

import (
	"fmt"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// nameOf names the Job of an attempt.
func nameOf(t *driver.Task) string { return t.Spec.Container.JobName(t.ID, t.Round, t.Failed) }

// Labels and annotations of what navvy makes.
const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelCreatedBy = "app.kubernetes.io/created-by"
	labelName      = "app.kubernetes.io/name"
	labelInstance  = "app.kubernetes.io/instance"
	labelPartOf    = "app.kubernetes.io/part-of"
	labelJob       = "navvy.run/job"
	labelTask      = "navvy.run/task"

	annotationOwner   = "navvy.run/owner"
	annotationAttempt = "navvy.run/attempt" // the token of whoever has it now
	annotationSpec    = "navvy.run/spec"    // what the Job was made of

	managedBy = "navvy"
	// jobNameLabel is what Kubernetes puts on the pods of a Job.
	jobNameLabel = "batch.kubernetes.io/job-name"
)

// labels are those of the Job and its pods.
func (d *Driver) labels(t *driver.Task, name string) map[string]string {
	return map[string]string{
		labelManagedBy: managedBy, labelCreatedBy: managedBy, labelPartOf: managedBy,
		labelName: t.Spec.Container.NamePrefix(), labelInstance: d.opts.Instance,
		labelJob: string(t.ID.Job), labelTask: fmt.Sprint(t.ID.Index),
	}
}

// ours tells whether labels are those of a task of this driver.
func (d *Driver) ours(have map[string]string, id navvy.TaskID) bool {
	return have[labelManagedBy] == managedBy && have[labelInstance] == d.opts.Instance &&
		have[labelJob] == string(id.Job) && have[labelTask] == fmt.Sprint(id.Index)
}
