package azure

import (
	"context"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeployments"

	"github.com/navvy-run/navvy/cluster/driver"
)

// mostChanges bounds how many lines are told of one resource.
const mostChanges = 50

// Preview implements driver.Previewer. It asks Azure what putting a resource would change, by its what-if: a line for each
// resource and each property, for people. Azure checks the template and the rights on the
// way. It changes nothing. There are no lines for a cluster that is not there: all of it
// is new. What Azure is not sure of, it says, and is sometimes wrong: lines may tell of
// defaults that the service fills in.
func (d *Driver) Preview(ctx context.Context, cluster string, r *driver.Resource) ([]string, error) {
	s, ok := r.Spec.(*spec)
	if !ok || r.Kind == driver.KindCluster {
		return nil, nil
	}
	group, err := d.find(ctx, cluster)
	if err != nil || group == nil {
		return nil, err
	}
	if err := d.bind(ctx, s); err != nil && !isNotFound(err) {
		return nil, d.failed(r.String(), "look at what its queues are in", err)
	}
	p, err := s.recipe.properties()
	if err != nil {
		return nil, err
	}
	poller, err := d.deployments.BeginWhatIf(ctx, s.group, s.names.deployment(r.ID), armdeployments.DeploymentWhatIf{
		Properties: &armdeployments.DeploymentWhatIfProperties{Mode: p.Mode, Template: p.Template, Parameters: p.Parameters},
	}, nil)
	if err != nil {
		return nil, d.failed(r.String(), "ask what would change", err)
	}
	result, err := poller.PollUntilDone(ctx, &pollOptions{Frequency: d.o.Poll})
	if err != nil {
		return nil, d.failed(r.String(), "ask what would change", err)
	}
	if result.Error != nil {
		return nil, explain(r.String(), "ask what would change", deepest(result.Error))
	}
	return changes(result.Properties), nil
}

func changes(p *armdeployments.WhatIfOperationProperties) []string {
	if p == nil {
		return nil
	}
	var lines []string
	for _, c := range p.Changes {
		if c == nil || c.ChangeType == nil {
			continue
		}
		id := str(c.ResourceID)
		if _, path, ok := strings.Cut(id, "/providers/"); ok {
			id = path
		}
		switch *c.ChangeType {
		case armdeployments.ChangeTypeNoChange, armdeployments.ChangeTypeIgnore:
		case armdeployments.ChangeTypeUnsupported:
			lines = append(lines, "unsupported "+id+": "+str(c.UnsupportedReason))
		case armdeployments.ChangeTypeCreate, armdeployments.ChangeTypeDelete, armdeployments.ChangeTypeDeploy, armdeployments.ChangeTypeModify:
			lines = append(lines, strings.ToLower(string(*c.ChangeType))+" "+id)
			lines = deltas(lines, "", c.Delta)
		}
	}
	if len(lines) > mostChanges {
		lines = append(lines[:mostChanges], fmt.Sprintf("and %d more", len(lines)-mostChanges))
	}
	return lines
}

// deltas are the changes of properties. Values that might be secrets are not told: Azure
// hides those of secure parameters, and we what is in an environment.
func deltas(lines []string, under string, all []*armdeployments.WhatIfPropertyChange) []string {
	for _, c := range all {
		if c == nil || c.PropertyChangeType == nil || *c.PropertyChangeType == armdeployments.PropertyChangeTypeNoEffect {
			continue
		}
		path := strings.TrimPrefix(under+"."+str(c.Path), ".")
		if len(c.Children) > 0 {
			lines = deltas(lines, path, c.Children)
			continue
		}
		line := "  " + path
		if !strings.Contains(strings.ToLower(path), "environmentvariables") && !strings.Contains(strings.ToLower(path), "key") {
			line += fmt.Sprintf(": %.80s → %.80s", orNone(c.Before), orNone(c.After))
		}
		lines = append(lines, line)
	}
	return lines
}

func orNone(v any) string {
	if v == nil {
		return "none"
	}
	return text(v)
}
