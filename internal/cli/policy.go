package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/policy"
)

// policyName is that of the policy in a data directory.
const policyName = "policy.yaml"

// policyPath is the file that flag or environment name; empty if they name none.
func (a *app) policyPath() (string, error) {
	path := a.policy
	if path == "" {
		path = a.env("NAVVY_POLICY")
	}
	if path == "" {
		return "", nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("policy: %w", err)
	}
	return path, nil
}

// loadPolicy reads the policy; nil if there is none.
func (a *app) loadPolicy(dir *holder.Dir) (*policy.Policy, error) {
	path, err := a.policyPath()
	if err != nil {
		return nil, err
	}
	if path == "" {
		p, err := policy.Load(filepath.Join(dir.Path(), policyName))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return p, err
	}
	p, err := policy.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &usageError{err}
	}
	return p, err
}

// errOtherPolicy is a holder that goes by another policy and is about to leave.
var errOtherPolicy = errors.New("a holder without work goes by another policy")

// checkPolicy refuses a holder that goes by another policy than the one that was
// asked for; with errOtherPolicy if it has nothing to do, and time to leave until then.
func (c *conn) checkPolicy(ctx context.Context, dir *holder.Dir, until time.Time) error {
	asked, err := c.app.policyPath()
	if err != nil || asked == "" {
		return err
	}
	m, err := c.overview(ctx)
	if m == nil {
		return err
	}
	held := m.GetPolicy()
	switch {
	case held == asked:
		return nil
	case len(m.GetActive()) == 0 && time.Until(until) > linger:
		return errOtherPolicy
	}
	return withHint(fmt.Errorf("process %d holds %s with another policy than %s: %s: %w", m.GetPid(), dir.Path(), asked, cmp.Or(held, "none"), navvy.ErrConflict),
		"wait until it has ended, or give another directory with --data")
}
