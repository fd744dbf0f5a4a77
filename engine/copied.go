package engine

import (
	"context"
	"encoding/json"
	"errors"
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

// KindTransfer is under which names files are copied for jobs, each OWNER/NAME, with the id
// of the job as its value. It is registered as the job becomes visible, so that no other one
// uses the name, and goes with what was copied.
const KindTransfer Kind = "transfer"

func transferName(owner, name string) string { return owner + "/" + name }

// Forget takes note that what was copied for a job that is gone is removed: its name may
// be used again.
func (c *Copied) Forget(ctx context.Context, r Registry, id navvy.JobID) error {
	return r.Apply(ctx,
		Change{Kind: KindCopied, Name: string(id), Delete: true},
		Change{Kind: KindTransfer, Name: transferName(c.Owner, c.Transfer), Delete: true},
	)
}

// transferFree refuses a job with ErrConflict if the name of what is copied for it is that
// of another job.
func (e *Engine) transferFree(ctx context.Context, job *navvy.Job) error {
	name := job.Spec.Stage.Transfer
	if name == "" {
		return nil
	}
	entry, err := e.Registry().Get(ctx, KindTransfer, transferName(job.Owner, name))
	if errors.Is(err, navvy.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	return fmt.Errorf("what is copied for job %s is named %s already; give it another name: %w", entry.Value, name, navvy.ErrConflict)
}

// takeTransfer registers the name of what is copied for a job; ErrConflict if another one
// has it.
func (t *tx) takeTransfer(e *Engine, job *navvy.Job) error {
	name := job.Spec.Stage.Transfer
	if name == "" {
		return nil
	}
	c := Change{Kind: KindTransfer, Name: transferName(job.Owner, name), Value: []byte(job.ID), IfAbsent: true}
	err := t.judge(&c)
	switch {
	case errors.Is(err, navvy.ErrExists):
		return fmt.Errorf("what is copied for another job is named %s: %w", name, navvy.ErrConflict)
	case err != nil:
		return err
	}
	t.register(&c, e.now())
	return nil
}

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
