package azure

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeployments"
	deploymentsfake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeployments/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"
	resourcesfake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3/fake"
)

const (
	testSubscription = "11111111-2222-3333-4444-555555555555"
	testKey          = "c2VjcmV0LWtleS1vZi1hbi1hY2NvdW50"
)

// cloud is an Azure in memory. The SDK's own fakes of its clients speak HTTP with the driver;
// what they have no clients for, and the files of Azure Files, cloud answers itself.
type cloud struct {
	turn        sync.Mutex // around the fakes: a list or a poll of theirs has one reader
	paged       bool       // lists have a page for each resource
	mu          sync.Mutex
	groups      map[string]*armresources.ResourceGroup
	resources   map[string]*thing // by id, in small letters
	deployments map[string]*running
	files       map[string]*remote // by share and path
	leases      map[string]*held   // by container
	now         func() time.Time

	deployFake *deploymentsfake.DeploymentsServerTransport
	factory    *resourcesfake.ServerFactoryTransport

	calls  []string
	fault  func(call string, n int) *fault                         // asked before each call
	refuse func(id string) *armdeployments.ErrorResponse           // of a deployed resource
	after  func(id string, t *thing)                               // a resource was made
	whatIf func(name string) *armdeployments.WhatIfOperationResult // the answer
	slow   int                                                     // looks until a deployment ends
	sent   map[string]armdeployments.Deployment                    // last, by name
}

// held is a lease.
type held struct {
	id    string
	until time.Time
}

type thing struct {
	id, kind, name, location string
	tags                     map[string]*string
	sku                      string
	properties               map[string]any
}

type running struct {
	e     armdeployments.DeploymentExtended
	left  int
	group string
	d     armdeployments.Deployment
}

type remote struct {
	data []byte
	meta map[string]string
	dir  bool
}

// fault is what a call comes to instead.
type fault struct {
	err    error
	status int
	code   string
	late   bool // after the call has done what it does
}

func newCloud() *cloud {
	c := &cloud{
		groups: map[string]*armresources.ResourceGroup{}, resources: map[string]*thing{}, deployments: map[string]*running{},
		files: map[string]*remote{}, leases: map[string]*held{}, now: time.Now, slow: 1, sent: map[string]armdeployments.Deployment{},
	}
	c.deployFake = deploymentsfake.NewDeploymentsServerTransport(&deploymentsfake.DeploymentsServer{
		BeginCreateOrUpdate: c.putDeployment, Get: c.getDeployment, BeginDelete: c.deleteDeployment,
		NewListByResourceGroupPager: c.listDeployments, BeginWhatIf: c.preview,
	})
	c.factory = resourcesfake.NewServerFactoryTransport(&resourcesfake.ServerFactory{
		Server: resourcesfake.Server{
			GetByID: c.getByID, BeginDeleteByID: c.deleteByID, NewListByResourceGroupPager: c.listResources,
		},
		ResourceGroupsServer: resourcesfake.ResourceGroupsServer{
			Get: c.getGroup, CreateOrUpdate: c.putGroup, Update: c.patchGroup, BeginDelete: c.deleteGroup, NewListPager: c.listGroups,
		},
	})
	return c
}

// Do implements policy.Transporter.
func (c *cloud) Do(req *http.Request) (*http.Response, error) {
	name, _ := req.Context().Value(runtime.CtxAPINameKey{}).(string)
	if name == "" || strings.HasSuffix(req.URL.Host, ".file.core.windows.net") {
		name = req.Method + " " + req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:]
		if comp := req.URL.Query().Get("comp"); comp != "" {
			name += "?" + comp
		}
	}
	c.mu.Lock()
	c.calls = append(c.calls, name)
	n, hook := len(c.calls), c.fault
	c.mu.Unlock()
	var f *fault
	if hook != nil {
		f = hook(name, n)
	}
	if f != nil && !f.late {
		return f.answer(req)
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	// The fakes panic if a request's context ends in their midst.
	resp, err := c.dispatch(req.WithContext(context.WithoutCancel(req.Context())), name)
	if f != nil && err == nil {
		_ = resp.Body.Close()
		return f.answer(req)
	}
	return resp, err
}

func (f *fault) answer(req *http.Request) (*http.Response, error) {
	if f.err != nil {
		return nil, f.err
	}
	resp := reply(req, f.status, map[string]any{"error": map[string]any{"code": f.code, "message": "as the test wants it"}})
	resp.Header.Set("X-Ms-Error-Code", f.code)
	resp.Header.Set("Retry-After-Ms", "1")
	return resp, nil
}

func (c *cloud) dispatch(req *http.Request, name string) (*http.Response, error) {
	switch {
	case strings.HasSuffix(req.URL.Host, ".file.core.windows.net"):
		return c.serveFiles(req)
	case strings.HasPrefix(name, "DeploymentsClient."):
		c.turn.Lock()
		defer c.turn.Unlock()
		return c.deployFake.Do(req)
	case strings.HasPrefix(name, "Client."), strings.HasPrefix(name, "ResourceGroupsClient."):
		c.turn.Lock()
		defer c.turn.Unlock()
		return c.factory.Do(req)
	}
	return c.serve(req)
}

func reply(req *http.Request, status int, body any) *http.Response {
	text := []byte{}
	if body != nil {
		text, _ = json.Marshal(body)
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), Proto: "HTTP/1.1", Request: req,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(text))), ContentLength: int64(len(text)),
	}
}

func failure(req *http.Request, status int, code string) *http.Response {
	r := reply(req, status, map[string]any{"error": map[string]any{"code": code, "message": code + " happened"}})
	r.Header.Set("X-Ms-Error-Code", code)
	return r
}

func key(parts ...string) string { return strings.ToLower(strings.Join(parts, "/")) }

// Resource groups.

func (c *cloud) getGroup(_ context.Context, name string, _ *armresources.ResourceGroupsClientGetOptions) (resp azfake.Responder[armresources.ResourceGroupsClientGetResponse], e azfake.ErrorResponder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.groups[key(name)]; g != nil {
		resp.SetResponse(200, armresources.ResourceGroupsClientGetResponse{ResourceGroup: *g}, nil)
	} else {
		e.SetResponseError(404, "ResourceGroupNotFound")
	}
	return resp, e
}

func (c *cloud) putGroup(_ context.Context, name string, g armresources.ResourceGroup, _ *armresources.ResourceGroupsClientCreateOrUpdateOptions) (resp azfake.Responder[armresources.ResourceGroupsClientCreateOrUpdateResponse], e azfake.ErrorResponder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g.Name, g.ID = to.Ptr(name), to.Ptr("/subscriptions/"+testSubscription+"/resourceGroups/"+name)
	g.Properties = &armresources.ResourceGroupProperties{ProvisioningState: to.Ptr("Succeeded")}
	c.groups[key(name)] = &g
	resp.SetResponse(201, armresources.ResourceGroupsClientCreateOrUpdateResponse{ResourceGroup: g}, nil)
	return resp, e
}

func (c *cloud) patchGroup(_ context.Context, name string, g armresources.ResourceGroupPatchable, _ *armresources.ResourceGroupsClientUpdateOptions) (resp azfake.Responder[armresources.ResourceGroupsClientUpdateResponse], e azfake.ErrorResponder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.groups[key(name)]
	if now == nil {
		e.SetResponseError(404, "ResourceGroupNotFound")
		return resp, e
	}
	now.Tags = g.Tags
	resp.SetResponse(200, armresources.ResourceGroupsClientUpdateResponse{ResourceGroup: *now}, nil)
	return resp, e
}

func (c *cloud) deleteGroup(_ context.Context, name string, _ *armresources.ResourceGroupsClientBeginDeleteOptions) (resp azfake.PollerResponder[armresources.ResourceGroupsClientDeleteResponse], e azfake.ErrorResponder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.groups[key(name)] == nil {
		e.SetResponseError(404, "ResourceGroupNotFound")
		return resp, e
	}
	delete(c.groups, key(name))
	c.vanish(strings.ToLower("/subscriptions/" + testSubscription + "/resourceGroups/" + name))
	maps.DeleteFunc(c.deployments, func(id string, _ *running) bool { return strings.HasPrefix(id, key(name)+"/") })
	resp.AddNonTerminalResponse(202, nil)
	resp.SetTerminalResponse(200, armresources.ResourceGroupsClientDeleteResponse{}, nil)
	return resp, e
}

func (c *cloud) listGroups(o *armresources.ResourceGroupsClientListOptions) (resp azfake.PagerResponder[armresources.ResourceGroupsClientListResponse]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	filter := ""
	if o != nil && o.Filter != nil {
		filter = *o.Filter
	}
	var all []*armresources.ResourceGroup
	for _, name := range slices.Sorted(maps.Keys(c.groups)) {
		if g := c.groups[name]; filtered(g.Tags, filter) {
			all = append(all, g)
		}
	}
	if c.paged {
		resp.AddPage(200, armresources.ResourceGroupsClientListResponse{}, nil)
	}
	resp.AddPage(200, armresources.ResourceGroupsClientListResponse{ResourceGroupListResult: armresources.ResourceGroupListResult{Value: all}}, nil)
	return resp
}

// filtered understands the two filters that the driver has.
func filtered(tags map[string]*string, filter string) bool {
	parts := strings.Split(filter, "'")
	switch len(parts) {
	case 3:
		return tagOf(tags, parts[1]) != ""
	case 5:
		return tagOf(tags, parts[1]) == parts[3]
	}
	return false
}

// Resources.

func (c *cloud) getByID(_ context.Context, id, version string, _ *armresources.ClientGetByIDOptions) (resp azfake.Responder[armresources.ClientGetByIDResponse], e azfake.ErrorResponder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.resources[strings.ToLower("/"+strings.TrimPrefix(id, "/"))]
	switch {
	case t == nil:
		e.SetResponseError(404, "ResourceNotFound")
	case versions[t.kind] != version:
		e.SetResponseError(400, "InvalidApiVersionParameter")
	default:
		r := armresources.ClientGetByIDResponse{}
		r.ID, r.Name, r.Type, r.Location, r.Tags, r.Properties = to.Ptr(t.id), to.Ptr(t.name), to.Ptr(t.kind), to.Ptr(t.location), t.tags, shown(t.properties)
		if t.sku != "" {
			r.SKU = &armresources.SKU{Name: to.Ptr(t.sku)}
		}
		resp.SetResponse(200, r, nil)
	}
	return resp, e
}

// shown is what Azure tells of properties: no secret.
func shown(v any) any {
	text, _ := json.Marshal(v)
	var out any
	_ = json.Unmarshal(text, &out)
	hide(out)
	return out
}

func hide(v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if name == "secureValue" || strings.HasSuffix(name, "Key") {
				delete(v, name)
			} else {
				hide(inner)
			}
		}
	case []any:
		for _, inner := range v {
			hide(inner)
		}
	}
}

func (c *cloud) deleteByID(_ context.Context, id, _ string, _ *armresources.ClientBeginDeleteByIDOptions) (resp azfake.PollerResponder[armresources.ClientDeleteByIDResponse], e azfake.ErrorResponder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vanish(strings.ToLower("/" + strings.TrimPrefix(id, "/")))
	resp.AddNonTerminalResponse(202, nil)
	resp.SetTerminalResponse(200, armresources.ClientDeleteByIDResponse{}, nil)
	return resp, e
}

func (c *cloud) listResources(group string, _ *armresources.ClientListByResourceGroupOptions) (resp azfake.PagerResponder[armresources.ClientListByResourceGroupResponse]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	prefix := strings.ToLower("/subscriptions/" + testSubscription + "/resourceGroups/" + group + "/")
	var page armresources.ClientListByResourceGroupResponse
	for _, id := range slices.Sorted(maps.Keys(c.resources)) {
		t := c.resources[id]
		if !strings.HasPrefix(id, prefix) || strings.Count(t.kind, "/") != 1 {
			continue
		}
		page.Value = append(page.Value, &armresources.GenericResourceExpanded{
			ID: to.Ptr(t.id), Name: to.Ptr(t.name), Type: to.Ptr(t.kind), Tags: t.tags, Location: to.Ptr(t.location),
		})
		if c.paged {
			resp.AddPage(200, page, nil)
			page.Value = nil
		}
	}
	resp.AddPage(200, page, nil)
	return resp
}

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
		Name: to.Ptr(name), Tags: d.Tags,
		Properties: &armdeployments.DeploymentPropertiesExtended{ProvisioningState: to.Ptr(armdeployments.ProvisioningStateAccepted)},
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
		r.e.Properties = &armdeployments.DeploymentPropertiesExtended{ProvisioningState: to.Ptr(armdeployments.ProvisioningStateRunning)}
		if r.left--; r.left == 0 {
			c.carryOut(r)
		}
	}
	resp.SetResponse(200, armdeployments.DeploymentsClientGetResponse{DeploymentExtended: r.e}, nil)
	return resp, e
}

// carryOut does what a deployment says.
func (c *cloud) carryOut(r *running) {
	p := &armdeployments.DeploymentPropertiesExtended{ProvisioningState: to.Ptr(armdeployments.ProvisioningStateSucceeded)}
	r.e.Properties = p
	outputs, err := c.apply(r)
	if err != nil {
		p.ProvisioningState = to.Ptr(armdeployments.ProvisioningStateFailed)
		inner := &armdeployments.ErrorResponse{Code: to.Ptr("InvalidTemplate"), Message: to.Ptr(err.Error())}
		var said *refusal
		if errors.As(err, &said) {
			inner = said.e
		}
		p.Error = &armdeployments.ErrorResponse{Code: to.Ptr("DeploymentFailed"), Message: to.Ptr("At least one resource deployment operation failed."), Details: []*armdeployments.ErrorResponse{inner}}
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

func (c *cloud) make(group string, v map[string]any) error {
	kind, name := v["type"].(string), v["name"].(string)
	types, parts := strings.Split(kind, "/"), strings.Split(name, "/")
	id := "/subscriptions/" + testSubscription + "/resourceGroups/" + group + "/providers/" + types[0]
	for i, part := range types[1:] {
		id += "/" + part + "/" + parts[i]
	}
	if len(parts) > 1 && c.resources[strings.ToLower(parent(id, len(types)))] == nil {
		return &refusal{&armdeployments.ErrorResponse{Code: to.Ptr("ParentResourceNotFound"), Message: to.Ptr(id)}}
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
			t.tags[name] = to.Ptr(value.(string))
		}
	}
	t.location, _ = v["location"].(string)
	t.sku, _ = at(v, "sku", "name").(string)
	t.properties["provisioningState"] = "Succeeded"
	if kind == typeGroup {
		t.properties["instanceView"] = map[string]any{"state": "Running"}
		at(t.properties, "containers", 0, "properties").(map[string]any)["instanceView"] = map[string]any{"restartCount": 0, "currentState": map[string]any{"state": "Running"}}
	}
	if old := c.resources[strings.ToLower(id)]; old != nil && len(types) > 3 && t.properties["metadata"] == nil && old.properties["metadata"] != nil {
		t.properties["metadata"] = old.properties["metadata"]
	}
	c.resources[strings.ToLower(id)] = t
	if c.after != nil {
		c.after(id, t)
	}
	return nil
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
		return map[string]any{"primaryConnectionString": "Endpoint=sb://x/;SharedAccessKey=" + testKey}
	case function == "listKeys" && t.kind == typeWorkspace:
		return map[string]any{"primarySharedKey": testKey}
	case function == "reference" && t.kind == typeInsights:
		return map[string]any{"ConnectionString": "InstrumentationKey=" + testKey}
	case function == "reference" && t.kind == typeWorkspace:
		return map[string]any{"customerId": "c"}
	}
	panic(function + " of " + id)
}

// serve answers the calls that have no client.
func (c *cloud) serve(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	path, last := req.URL.Path, req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:]
	t := c.resources[strings.ToLower(path)]
	switch {
	case req.Method == http.MethodPost && last == "listKeys":
		return reply(req, 200, map[string]any{"keys": []any{map[string]any{"value": testKey}}}), nil
	case req.Method == http.MethodPost && last == "lease":
		return c.lease(req, path[:len(path)-len("/lease")])
	case t == nil && req.Method == http.MethodGet && strings.Count(path[strings.Index(path, "/providers/"):], "/")%2 == 1:
		return c.list(req, path)
	case t == nil:
		return failure(req, 404, "ResourceNotFound"), nil
	case req.Method == http.MethodGet:
		return reply(req, 200, map[string]any{"id": t.id, "name": t.name, "properties": shown(t.properties)}), nil
	case req.Method == http.MethodDelete:
		delete(c.resources, strings.ToLower(path))
		return reply(req, 200, nil), nil
	case req.Method == http.MethodPatch:
		var body map[string]any
		if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
			return failure(req, 400, "InvalidRequestContent"), nil
		}
		maps.Copy(t.properties, at(body, "properties").(map[string]any))
		return reply(req, 200, nil), nil
	}
	return failure(req, 405, "MethodNotAllowed"), nil
}

func (c *cloud) list(req *http.Request, path string) (*http.Response, error) {
	prefix := strings.ToLower(path) + "/"
	all := []any{}
	for _, id := range slices.Sorted(maps.Keys(c.resources)) {
		if rest, ok := strings.CutPrefix(id, prefix); ok && !strings.Contains(rest, "/") {
			all = append(all, map[string]any{"id": c.resources[id].id, "name": c.resources[id].name})
		}
	}
	return reply(req, 200, map[string]any{"value": all}), nil
}

func (c *cloud) lease(req *http.Request, path string) (*http.Response, error) {
	var call leaseCall
	if err := json.NewDecoder(req.Body).Decode(&call); err != nil || c.resources[strings.ToLower(path)] == nil {
		return failure(req, 404, "ContainerNotFound"), nil
	}
	now := c.leases[strings.ToLower(path)]
	taken := now != nil && c.now().Before(now.until)
	switch {
	case call.Action == "Acquire" && taken && call.Proposed != now.id:
		return failure(req, 409, "LeaseAlreadyPresent"), nil
	case call.Action == "Acquire":
		now = &held{id: call.Proposed}
		c.leases[strings.ToLower(path)] = now
	case now == nil || call.ID != now.id:
		return failure(req, 409, "LeaseIdMismatchWithLeaseOperation"), nil
	case call.Action == "Release":
		delete(c.leases, strings.ToLower(path))
		return reply(req, 200, map[string]any{}), nil
	}
	now.until = c.now().Add(leaseTime)
	return reply(req, 200, leaseAnswer{ID: now.id}), nil
}

// expire has the leases of those who died end.
func (c *cloud) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.leases)
}

// vanish removes what of a tree there is.
func (c *cloud) vanish(prefix string) {
	under := func(id string) bool { return id == prefix || strings.HasPrefix(id, prefix+"/") }
	maps.DeleteFunc(c.resources, func(id string, _ *thing) bool { return under(id) })
	maps.DeleteFunc(c.leases, func(id string, _ *held) bool { return under(id) })
}

// serveFiles is Azure Files, as far as uploads use it.
func (c *cloud) serveFiles(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body := []byte{}
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
	}
	parts := strings.SplitN(strings.Trim(req.URL.Path, "/"), "/", 2)
	account, _, _ := strings.Cut(req.URL.Host, ".")
	share := c.share(account, parts[0])
	if share == nil || !strings.HasPrefix(req.Header.Get("Authorization"), "SharedKey ") {
		return failure(req, 404, "ShareNotFound"), nil
	}
	meta := map[string]string{}
	for name, values := range req.Header {
		if n, ok := strings.CutPrefix(strings.ToLower(name), "x-ms-meta-"); ok {
			meta[n] = values[0]
		}
	}
	comp, kind := req.URL.Query().Get("comp"), req.URL.Query().Get("restype")
	if len(parts) == 1 {
		share.properties["metadata"] = meta
		return reply(req, 200, nil), nil
	}
	id := account + "/" + parts[0] + "/" + parts[1]
	f := c.files[id]
	switch {
	case req.Method == http.MethodPut && kind == "directory" && f != nil:
		return failure(req, 409, "ResourceAlreadyExists"), nil
	case req.Method == http.MethodPut && kind == "directory":
		c.files[id] = &remote{dir: true}
		return reply(req, 201, nil), nil
	case req.Method == http.MethodPut && comp == "":
		dir := id[:strings.LastIndex(id, "/")]
		if strings.Count(dir, "/") > 1 && (c.files[dir] == nil || !c.files[dir].dir) {
			return failure(req, 404, "ParentNotFound"), nil
		}
		var size int
		_, _ = fmt.Sscan(header(req, "X-Ms-Content-Length"), &size)
		c.files[id] = &remote{data: make([]byte, size), meta: meta}
		return reply(req, 201, nil), nil
	case f == nil:
		return failure(req, 404, "ResourceNotFound"), nil
	case req.Method == http.MethodPut && comp == "range":
		var from int
		_, _ = fmt.Sscanf(header(req, "X-Ms-Range"), "bytes=%d-", &from)
		copy(f.data[from:], body)
		return reply(req, 201, nil), nil
	case req.Method == http.MethodPut && comp == "metadata":
		f.meta = meta
		return reply(req, 200, nil), nil
	case req.Method == http.MethodDelete:
		delete(c.files, id)
		return reply(req, 202, nil), nil
	}
	resp := reply(req, 200, nil)
	resp.Header.Set("Content-Length", fmt.Sprint(len(f.data)))
	for name, value := range f.meta {
		resp.Header.Set("X-Ms-Meta-"+name, value)
	}
	if req.Method == http.MethodGet {
		resp.Body = io.NopCloser(strings.NewReader(string(f.data)))
	}
	return resp, nil
}

// header is one that the SDK has written in small letters.
func header(req *http.Request, name string) string {
	for key, values := range req.Header {
		if equalFold(key, name) {
			return values[0]
		}
	}
	return ""
}

func (c *cloud) share(account, name string) *thing {
	for id, t := range c.resources {
		if strings.HasSuffix(id, "/"+account+"/fileservices/default/shares/"+name) {
			return t
		}
	}
	return nil
}

// token is a credential of tests.
type token struct{ err error }

func (t token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: base64.StdEncoding.EncodeToString([]byte("token")), ExpiresOn: time.Now().Add(time.Hour)}, t.err
}

// driver is one that sees this cloud.
func (c *cloud) driver(t testing.TB) *Driver {
	t.Helper()
	d, err := New(testSubscription, &Options{
		Location: "westeurope", Transport: c, Credential: token{}, Poll: 20 * time.Microsecond, RetryDelay: 20 * time.Microsecond,
		Getenv: func(name string) string {
			return map[string]string{"SECRET": "geheim", "BROKER": "amqps://u:geheim@mq.example/?vhost=v"}[name]
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
