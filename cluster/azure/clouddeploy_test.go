package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeployments"
)

// Deployments.

func (c *cloud) putDeployment(_ context.Context, group, name string, d armdeployments.Deployment, _ *armdeployments.DeploymentsClientBeginCreateOrUpdateOptions) (resp azfake.PollerResponder[armdeployments.DeploymentsClientCreateOrUpdateResponse], e azfake.ErrorResponder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.groups[key(group)] == nil {
		e.SetResponseError(404, "ResourceGroupNotFound")
		return resp, e
	}
	if old := c.deployments[key(group, name)]; old != nil && old.left > 0 {
		e.SetResponseError(409, "DeploymentActive")
		return resp, e
	}
	r := &running{left: c.slow, group: group, d: d, e: armdeployments.DeploymentExtended{
		Name: new(name), Tags: d.Tags,
		Properties: &armdeployments.DeploymentPropertiesExtended{ProvisioningState: new(armdeployments.ProvisioningStateAccepted)},
	}}
	c.deployments[key(group, name)] = r
	c.sent[name] = d
	resp.SetTerminalResponse(201, armdeployments.DeploymentsClientCreateOrUpdateResponse{DeploymentExtended: r.e}, nil)
	return resp, e
}

func (c *cloud) getDeployment(_ context.Context, group, name string, _ *armdeployments.DeploymentsClientGetOptions) (resp azfake.Responder[armdeployments.DeploymentsClientGetResponse], e azfake.ErrorResponder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.deployments[key(group, name)]
	if r == nil {
		e.SetResponseError(404, "DeploymentNotFound")
		return resp, e
	}
	if r.left > 0 {
		r.e.Properties = &armdeployments.DeploymentPropertiesExtended{ProvisioningState: new(armdeployments.ProvisioningStateRunning)}
		if r.left--; r.left == 0 {
			c.carryOut(r)
		}
	}
	resp.SetResponse(200, armdeployments.DeploymentsClientGetResponse{DeploymentExtended: r.e}, nil)
	return resp, e
}

// carryOut does what a deployment says.
func (c *cloud) carryOut(r *running) {
	p := &armdeployments.DeploymentPropertiesExtended{ProvisioningState: new(armdeployments.ProvisioningStateSucceeded)}
	r.e.Properties = p
	outputs, err := c.apply(r)
	if err != nil {
		p.ProvisioningState = new(armdeployments.ProvisioningStateFailed)
		inner := &armdeployments.ErrorResponse{Code: new("InvalidTemplate"), Message: new(err.Error())}
		if said, is := errors.AsType[*refusal](err); is {
			inner = said.e
		}
		p.Error = &armdeployments.ErrorResponse{Code: new("DeploymentFailed"), Message: new("At least one resource deployment operation failed."), Details: []*armdeployments.ErrorResponse{inner}}
	}
	p.Outputs = outputs
}

type refusal struct{ e *armdeployments.ErrorResponse }

func (r *refusal) Error() string { return str(r.e.Code) }

func (c *cloud) apply(r *running) (any, error) {
	template, parameters, err := opened(r.d)
	if err != nil {
		return nil, err
	}
	s := &scope{cloud: c, group: r.group, parameters: parameters, copies: map[string]int{}, seen: map[string]bool{}}
	for _, def := range template["resources"].([]any) {
		v, err := s.expand(def)
		if err != nil {
			return nil, err
		}
		if at(v, "condition") == false {
			continue
		}
		if err := c.make(r.group, v.(map[string]any)); err != nil {
			return nil, err
		}
	}
	if template["outputs"] == nil {
		return nil, nil
	}
	return s.expand(template["outputs"])
}

// opened is a deployment as JSON has it.
func opened(d armdeployments.Deployment) (template, parameters map[string]any, err error) {
	text, err := json.Marshal(d.Properties.Template)
	if err == nil {
		err = json.Unmarshal(text, &template)
	}
	if err != nil {
		return nil, nil, err
	}
	parameters = map[string]any{}
	for name, p := range d.Properties.Parameters {
		var v any
		text, err := json.Marshal(p.Value)
		if err == nil {
			err = json.Unmarshal(text, &v)
		}
		if err != nil {
			return nil, nil, err
		}
		parameters[name] = v
	}
	return template, parameters, nil
}

// changeable refuses what Azure does not change in a container group that is there.
func (c *cloud) changeable(t *thing) error {
	old := c.resources[strings.ToLower(t.id)]
	if t.kind != typeGroup || old == nil || fixedOf(old.properties) == fixedOf(t.properties) {
		return nil
	}
	return &refusal{&armdeployments.ErrorResponse{Code: new("InvalidContainerGroupUpdate"), Message: new("The updates on container group " + t.name + " are invalid.")}}
}

// fixedOf is what Azure does not change in a container group.
func fixedOf(group map[string]any) string {
	words := []string{fmt.Sprint(group["diagnostics"])}
	for _, c := range elements(group["containers"]) {
		words = append(words, text(at(c, "name")), fmt.Sprint(at(c, "properties", "resources")))
	}
	return strings.Join(words, " ")
}

func (c *cloud) make(group string, v map[string]any) error {
	kind, name := v["type"].(string), v["name"].(string)
	types, parts := strings.Split(kind, "/"), strings.Split(name, "/")
	id := "/subscriptions/" + testSubscription + "/resourceGroups/" + group + "/providers/" + types[0]
	for i, part := range types[1:] {
		id += "/" + part + "/" + parts[i]
	}
	if len(parts) > 1 && c.resources[strings.ToLower(parent(id, len(types)))] == nil {
		return &refusal{&armdeployments.ErrorResponse{Code: new("ParentResourceNotFound"), Message: new(id)}}
	}
	if c.refuse != nil {
		if e := c.refuse(id); e != nil {
			return &refusal{e}
		}
	}
	t := &thing{id: id, kind: kind, name: parts[len(parts)-1], properties: map[string]any{}, tags: map[string]*string{}}
	if p, ok := v["properties"].(map[string]any); ok {
		t.properties = p
	}
	if tags, ok := v["tags"].(map[string]any); ok {
		for name, value := range tags {
			t.tags[name] = new(value.(string))
		}
	}
	if err := c.changeable(t); err != nil {
		return err
	}
	t.location, _ = v["location"].(string)
	t.sku, _ = at(v, "sku", "name").(string)
	t.properties["provisioningState"] = "Succeeded"
	c.birth(t)
	c.enliven(t)
	if old := c.resources[strings.ToLower(id)]; old != nil && len(types) > 3 && t.properties["metadata"] == nil && old.properties["metadata"] != nil {
		t.properties["metadata"] = old.properties["metadata"]
	}
	c.resources[strings.ToLower(id)] = t
	if c.after != nil {
		c.after(id, t)
	}
	return nil
}

// enliven has a resource say what Azure does of one that runs.
func (c *cloud) enliven(t *thing) {
	switch t.kind {
	case typeGroup:
		t.properties["instanceView"] = map[string]any{"state": "Running"}
		at(t.properties, "containers", 0, "properties").(map[string]any)["instanceView"] = map[string]any{"restartCount": 0, "currentState": map[string]any{"state": "Running"}}
	case typeAKS:
		c.beginAKS(t)
	case typeInsights:
		t.properties["ConnectionString"] = "InstrumentationKey=" + testKey
	}
}

// birth says when what has keys was made, which an update leaves as it is.
func (c *cloud) birth(t *thing) {
	id := strings.ToLower(t.id)
	if c.resources[id] == nil {
		c.births[id]++
	}
	if when := map[string]string{typeNamespace: "createdAt", typeAccount: "creationTime"}[t.kind]; when != "" {
		t.properties[when] = fmt.Sprintf("2026-01-01T00:00:%02dZ", c.births[id])
	}
}

// parent is the tracked resource that a resource is in.
func parent(id string, depth int) string {
	parts := strings.Split(id, "/")
	return strings.Join(parts[:len(parts)-2*(depth-2)], "/")
}

func (c *cloud) deleteDeployment(_ context.Context, group, name string, _ *armdeployments.DeploymentsClientBeginDeleteOptions) (resp azfake.PollerResponder[armdeployments.DeploymentsClientDeleteResponse], e azfake.ErrorResponder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deployments[key(group, name)] == nil {
		e.SetResponseError(404, "DeploymentNotFound")
		return resp, e
	}
	delete(c.deployments, key(group, name))
	resp.SetTerminalResponse(204, armdeployments.DeploymentsClientDeleteResponse{}, nil)
	return resp, e
}

func (c *cloud) listDeployments(group string, _ *armdeployments.DeploymentsClientListByResourceGroupOptions) (resp azfake.PagerResponder[armdeployments.DeploymentsClientListByResourceGroupResponse]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var page armdeployments.DeploymentsClientListByResourceGroupResponse
	for _, id := range slices.Sorted(maps.Keys(c.deployments)) {
		if strings.HasPrefix(id, key(group)+"/") {
			page.Value = append(page.Value, &c.deployments[id].e)
		}
	}
	resp.AddPage(200, page, nil)
	return resp
}

func (c *cloud) preview(_ context.Context, _, name string, _ armdeployments.DeploymentWhatIf, _ *armdeployments.DeploymentsClientBeginWhatIfOptions) (resp azfake.PollerResponder[armdeployments.DeploymentsClientWhatIfResponse], e azfake.ErrorResponder) {
	resp.AddNonTerminalResponse(202, nil)
	resp.SetTerminalResponse(200, armdeployments.DeploymentsClientWhatIfResponse{WhatIfOperationResult: *c.whatIf(name)}, nil)
	return resp, e
}

// ask is what templates can ask of resources.
func (c *cloud) ask(function, id string) any {
	t := c.resources[strings.ToLower(id)]
	if t == nil {
		panic("there is no " + id)
	}
	switch {
	case function == "listKeys" && t.kind == typeAccount:
		return map[string]any{"keys": []any{map[string]any{"value": testKey}}}
	case function == "listKeys" && strings.HasPrefix(t.kind, typeNamespace):
		return map[string]any{"primaryConnectionString": busConnection}
	case function == "listKeys" && t.kind == typeWorkspace:
		return map[string]any{"primarySharedKey": testKey}
	case function == "reference" && t.kind == typeInsights:
		return map[string]any{"ConnectionString": "InstrumentationKey=" + testKey}
	case function == "reference" && t.kind == typeWorkspace:
		return map[string]any{"customerId": "c"}
	}
	panic(function + " of " + id)
}
