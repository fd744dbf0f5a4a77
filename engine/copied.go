package engine

import (
	"encoding/json"
	"fmt"

	"github.com/navvy-run/navvy"
)

// KindCopied is what was copied for jobs that are gone (see navvy.Stage), by the job's id:
// registered in the step in which the job goes, for whoever keeps files to remove them, and
// then the entry. The value is a Copied, as JSON.
const KindCopied Kind = "copied"

// Copied says whose files were copied for a job, and under which name.
type Copied struct {
	Version  int    `json:"version"`
	Owner    string `json:"owner"`
	Transfer string `json:"transfer"`
}

const copiedVersion = 1

// noteCopied registers what was copied for a job that goes.
func (t *tx) noteCopied(e *Engine, job *navvy.Job) error {
	if job.Spec.Stage.Transfer == "" {
		return nil
	}
	value, err := json.Marshal(&Copied{copiedVersion, job.Owner, job.Spec.Stage.Transfer})
	if err != nil {
		return fmt.Errorf("engine: what was copied for job %s: %w", job.ID, err)
	}
	c := Change{Kind: KindCopied, Name: string(job.ID), Value: value}
	if err := t.judge(&c); err != nil {
		return err
	}
	t.register(&c, e.now())
	return nil
}
