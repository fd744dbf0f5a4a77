package container

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// maxName is how long the name of a Job may be, so that its pods can be named after it and
// its name can be the value of a label (63), less what Kubernetes puts behind it.
const maxName = 57

// uuidLength is that of a UUID in text.
const uuidLength = 36

// nameOf names the Job of an attempt: what the job is called, and a UUID that is the same
// for every attempt at a task until one of them has ended. So whoever is given the task
// after a restart, or after a lease that was lost, finds the Job that runs.
func nameOf(t *driver.Task) string {
	return prefix(t) + "-" + uuidOf(t)
}

// uuidOf is a UUID, version 8 (RFC 9562), made of what the name stands for.
func uuidOf(t *driver.Task) string {
	return uuid(fmt.Sprintf("navvy.container.1 %s %d %d %d", t.ID.Job, t.ID.Index, t.Round, t.Failed))
}

func uuid(of string) string {
	sum := sha256.Sum256([]byte(of))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	s := hex.EncodeToString(sum[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// prefix is the name that the spec asks for, as Kubernetes can have it; navvy otherwise.
func prefix(t *driver.Task) string {
	name := "navvy"
	if c := t.Spec.Container; c != nil && c.Name != "" {
		name = c.Name
	}
	name = label(strings.ToLower(name), maxName-1-uuidLength)
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		name = label("j"+name, maxName-1-uuidLength)
	}
	return strings.ReplaceAll(name, ".", "-")
}

// label is a text as the value of a label of at most n bytes: what cannot be in one becomes
// a dash.
func label(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.':
			return r
		}
		return '-'
	}, text)
	return strings.Trim(text[:min(len(text), n)], "-.")
}

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
		labelName: prefix(t), labelInstance: d.opts.Instance,
		labelJob: string(t.ID.Job), labelTask: fmt.Sprint(t.ID.Index),
	}
}

// ours tells whether labels are those of a task of this driver.
func (d *Driver) ours(have map[string]string, id navvy.TaskID) bool {
	return have[labelManagedBy] == managedBy && have[labelInstance] == d.opts.Instance &&
		have[labelJob] == string(id.Job) && have[labelTask] == fmt.Sprint(id.Index)
}
