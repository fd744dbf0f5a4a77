package azure

import (
	"context"
	"encoding/base64"
	"encoding/json"
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
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeployments"
	deploymentsfake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeployments/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"
	resourcesfake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3/fake"
)

const (
	testSubscription = "11111111-2222-3333-4444-555555555555"
	testKey          = "c2VjcmV0LWtleS1vZi1hbi1hY2NvdW50"
	busConnection    = "Endpoint=sb://x/;SharedAccessKey=" + testKey
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
	births map[string]int                                          // how often something was made that was not there
	slow   int                                                     // looks until a deployment ends
	sent   map[string]armdeployments.Deployment                    // last, by name

	kubeconfig []byte            // of the administrator of AKS clusters
	ended      func(name string) // an AKS cluster is gone
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
		files: map[string]*remote{}, leases: map[string]*held{}, now: time.Now, slow: 1, births: map[string]int{}, sent: map[string]armdeployments.Deployment{},
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
	g.Name, g.ID = new(name), new("/subscriptions/"+testSubscription+"/resourceGroups/"+name)
	g.Properties = &armresources.ResourceGroupProperties{ProvisioningState: new("Succeeded")}
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
		r.ID, r.Name, r.Type, r.Location, r.Tags, r.Properties = new(t.id), new(t.name), new(t.kind), new(t.location), t.tags, shown(t.properties)
		if t.sku != "" {
			r.SKU = &armresources.SKU{Name: new(t.sku)}
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
	id = strings.ToLower("/" + strings.TrimPrefix(id, "/"))
	for _, t := range c.resources {
		if rule, _ := t.properties["dataCollectionRuleId"].(string); strings.EqualFold(rule, id) {
			e.SetResponseError(409, "DataCollectionRuleHasAssociations")
			return resp, e
		}
	}
	c.vanish(id)
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
			ID: new(t.id), Name: new(t.name), Type: new(t.kind), Tags: t.tags, Location: new(t.location),
		})
		if c.paged {
			resp.AddPage(200, page, nil)
			page.Value = nil
		}
	}
	resp.AddPage(200, page, nil)
	return resp
}

// serve answers the calls that have no client.
func (c *cloud) serve(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	path, last := req.URL.Path, req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:]
	t := c.resources[strings.ToLower(path)]
	switch {
	case req.Method == http.MethodPost && last == "listKeys":
		return reply(req, 200, map[string]any{"keys": []any{map[string]any{"value": testKey}}, "primaryConnectionString": busConnection}), nil
	case req.Method == http.MethodPost && last == "listClusterAdminCredential":
		return c.credential(req, path[:len(path)-len("/"+last)]), nil
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
	for id, t := range c.resources {
		if under(id) && t.kind == typeAKS {
			c.endAKS(t)
		}
	}
	maps.DeleteFunc(c.resources, func(id string, _ *thing) bool { return under(id) })
	maps.DeleteFunc(c.leases, func(id string, _ *held) bool { return under(id) })
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
