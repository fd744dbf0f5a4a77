package azure

import (
	"context"
	"errors"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeployments"
)

// deployment is one deployment of a template.
type deployment struct {
	what   string // the resource, for people
	group  string
	name   string
	recipe recipe
	tags   map[string]string
	salt   []byte
}

// deploy makes what the template says, and returns when it is there. A deployment of the name
// that is under way, as after a crash, is waited for: if it was the same nothing more is done.
func (d *Driver) deploy(ctx context.Context, p *deployment) error {
	digest, err := p.recipe.digest(p.salt)
	if err != nil {
		return err
	}
	for {
		now, err := d.deployments.Get(ctx, p.group, p.name, nil)
		if err != nil && !isNotFound(err) {
			return d.failed(p.what, "look at its deployment "+p.name, err)
		}
		if err == nil && !ended(&now.DeploymentExtended) {
			d.o.Logger.Info("a deployment is under way, and is waited for", "resource", p.what, "deployment", p.name)
			if err := d.await(ctx, p); err == nil && tagOf(now.Tags, tagDigest) == digest {
				return nil
			} else if ctx.Err() != nil {
				return err
			} // what another one made, or failed to make, is no concern of ours
		}
		err = d.begin(ctx, p, digest)
		if isActive(err) {
			if err := d.pause(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		return d.await(ctx, p)
	}
}

// begin sends the deployment. It is not waited for with the SDK's poller: await is there for
// those whose poller died with another process, and does for both.
func (d *Driver) begin(ctx context.Context, p *deployment, digest string) error {
	properties, err := p.recipe.properties()
	if err != nil {
		return err
	}
	tags := map[string]*string{tagDigest: new(digest)}
	for name, value := range p.tags {
		tags[name] = new(value)
	}
	_, err = d.deployments.BeginCreateOrUpdate(ctx, p.group, p.name, armdeployments.Deployment{Properties: properties, Tags: tags}, nil)
	return d.failed(p.what, "deploy", err)
}

// looks is how many times in a row a look at a deployment may fail, each with the repetitions
// of the SDK, before we give up: the deployment goes on without us.
const looks = 5

// await waits until a deployment has ended.
func (d *Driver) await(ctx context.Context, p *deployment) error {
	for failures := 0; ; {
		now, err := d.deployments.Get(ctx, p.group, p.name, nil)
		switch {
		case err == nil && ended(&now.DeploymentExtended):
			return d.outcome(p, &now.DeploymentExtended)
		case err == nil:
			failures = 0
		case ctx.Err() != nil:
			return fmt.Errorf("azure: %s: its deployment %s goes on; run it again: %w", p.what, p.name, context.Cause(ctx))
		default:
			if failures++; failures >= looks || !isPassing(err) {
				return d.failed(p.what, "wait for its deployment "+p.name, err)
			}
		}
		if err := d.pause(ctx); err != nil {
			return fmt.Errorf("azure: %s: its deployment %s goes on; run it again: %w", p.what, p.name, err)
		}
	}
}

// ended tells whether nothing more happens to a deployment.
func ended(e *armdeployments.DeploymentExtended) bool {
	switch stateOf(e) {
	case armdeployments.ProvisioningStateSucceeded, armdeployments.ProvisioningStateFailed, armdeployments.ProvisioningStateCanceled:
		return true
	default:
		return false
	}
}

func stateOf(e *armdeployments.DeploymentExtended) armdeployments.ProvisioningState {
	if e.Properties == nil || e.Properties.ProvisioningState == nil {
		return armdeployments.ProvisioningStateNotSpecified
	}
	return *e.Properties.ProvisioningState
}

// outcome is nil for a deployment that succeeded, and why another one did not.
func (d *Driver) outcome(p *deployment, e *armdeployments.DeploymentExtended) error {
	switch state := stateOf(e); state {
	case armdeployments.ProvisioningStateSucceeded:
		return nil
	case armdeployments.ProvisioningStateCanceled:
		return conflict("%s: somebody cancelled its deployment %s: apply again", p.what, p.name)
	default:
		if why := e.Properties.Error; why != nil {
			return explain(p.what, "deploy", deepest(why))
		}
		return explain(p.what, "deploy", cause{code: "DeploymentFailed", message: "Azure says no more than that it failed"})
	}
}

// deepest is the cause of an error that others are wrapped around: Azure says
// DeploymentFailed first, and what happened at the end.
func deepest(e *armdeployments.ErrorResponse) cause {
	c := cause{code: str(e.Code), message: str(e.Message), target: str(e.Target)}
	for _, detail := range e.Details {
		if detail == nil {
			continue
		}
		inner := deepest(detail)
		if inner.code == "" {
			inner.code = c.code
		}
		if known(inner.code) || !known(c.code) {
			return inner
		}
	}
	return nested(c)
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// tagOf is a tag's value. Azure keeps the letters of a tag's name as they were written first,
// and does not tell them apart.
func tagOf(tags map[string]*string, name string) string {
	for key, value := range tags {
		if value != nil && equalFold(key, name) {
			return *value
		}
	}
	return ""
}

// gone removes something that has tags and waits until it is not there any more.
func (d *Driver) gone(ctx context.Context, what, id, version string) error {
	for failures := 0; ; {
		poller, err := d.resources.BeginDeleteByID(ctx, id, version, nil)
		if err == nil {
			_, err = poller.PollUntilDone(ctx, &pollOptions{Frequency: d.o.Poll})
		}
		if err == nil {
			_, err = d.resources.GetByID(ctx, id, version, nil)
		}
		switch {
		case isNotFound(err):
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("azure: %s: its removal goes on; run it again: %w", what, context.Cause(ctx))
		case err == nil: // it is said to be gone, and is still there
		default:
			if failures++; failures >= looks || !isPassing(err) {
				return d.failed(what, "remove", err)
			}
		}
		if err := d.pause(ctx); err != nil {
			return errors.Join(fmt.Errorf("azure: %s: its removal goes on; run it again", what), err)
		}
	}
}
