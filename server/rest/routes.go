package rest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// documentPath is where the OpenAPI document is.
const documentPath = "/v1/openapi.json"

// route is one route: a method and a path, and the call that it makes.
type route struct {
	method string
	// path has names in braces; {key...} takes what is left of it.
	path string
	// call is the call of package navvy.v1 that is made, as Service.Call. Its comment is
	// the route's description.
	call string
	// name is unique among routes; the call if empty.
	name string
	// body says that the fields of the request that are not in the path come as an object
	// in the body, not in the query.
	body bool
	// bound is that of the body in bytes where it is above maxBody.
	bound int64
	// duplex says that the body goes on while the answer comes.
	duplex bool
	// fixed are fields of the request that the route sets or leaves, and nobody else.
	fixed []string
	// preset sets some of them.
	preset func(proto.Message)
	// serve serves the route where it is not the usual: the request goes from path, query
	// and body to the call, the answer back as JSON, a stream as one JSON object a line.
	serve func(*exchange) error
	// extra changes what the document says of the route, nil for nothing.
	extra func(*documenter, operation)

	desc     protoreflect.MethodDescriptor
	segments []string
}

// The statuses of answers that are no errors are 200, and 201 for a new job.
var routeList = []route{
	{method: http.MethodPost, path: "/v1/jobs", call: "Jobs.Submit", serve: (*exchange).submit, extra: submitDoc},
	{method: http.MethodPost, path: "/v1/run", call: "Jobs.Run", serve: (*exchange).runTask, extra: runDoc},
	{method: http.MethodPost, path: "/v1/calls", call: "Jobs.Run", name: "Jobs.Calls", duplex: true, serve: (*exchange).runCalls, extra: callsDoc},
	{method: http.MethodGet, path: "/v1/jobs", call: "Jobs.List"},
	{method: http.MethodGet, path: "/v1/jobs/{id}", call: "Jobs.Get"},
	{method: http.MethodDelete, path: "/v1/jobs/{id}", call: "Jobs.Remove"},
	{method: http.MethodPost, path: "/v1/jobs/{id}/hold", call: "Jobs.Hold", body: true},
	{method: http.MethodPost, path: "/v1/jobs/{id}/resume", call: "Jobs.Resume", body: true, fixed: []string{"attach", "progress"}, serve: (*exchange).first, extra: resumeDoc},
	{method: http.MethodPost, path: "/v1/jobs/{id}/stop", call: "Jobs.Stop", body: true},
	{method: http.MethodPost, path: "/v1/jobs/{id}/retry", call: "Jobs.Retry", body: true},
	{method: http.MethodGet, path: "/v1/jobs/{id}/watch", call: "Jobs.Watch"},
	{method: http.MethodGet, path: "/v1/jobs/{id}/results", call: "Jobs.Results", serve: (*exchange).results, extra: resultsDoc},
	{method: http.MethodGet, path: "/v1/jobs/{id}/tasks/{index}", call: "Jobs.Task"},
	{method: http.MethodGet, path: "/v1/jobs/{id}/tasks/{index}/output", call: "Jobs.ReadOutput", serve: (*exchange).output, extra: outputDoc},
	{method: http.MethodGet, path: "/v1/find/{prefix}", call: "Jobs.Find"},
	{method: http.MethodGet, path: "/v1/overview", call: "Jobs.Overview"},

	{method: http.MethodGet, path: "/v1/workers", call: "Fleet.List"},
	{method: http.MethodGet, path: "/v1/workers/{name}", call: "Fleet.List", name: "Fleet.Get", serve: (*exchange).worker, extra: workerDoc},
	{method: http.MethodPost, path: "/v1/workers/{name}/drain", call: "Fleet.Drain", body: true},
	{method: http.MethodDelete, path: "/v1/workers/{name}", call: "Fleet.Remove"},

	{method: http.MethodGet, path: "/v1/queues", call: "Queues.List"},
	{method: http.MethodPut, path: "/v1/queues/{name}", call: "Queues.Set", name: "Queues.Create", body: true, fixed: []string{"create"}, preset: create},
	{method: http.MethodPatch, path: "/v1/queues/{name}", call: "Queues.Set", body: true, fixed: []string{"create"}},
	{method: http.MethodPost, path: "/v1/queues/{name}/pause", call: "Queues.Pause", body: true},
	{method: http.MethodPost, path: "/v1/queues/{name}/resume", call: "Queues.Resume", body: true},
	{method: http.MethodDelete, path: "/v1/queues/{name}", call: "Queues.Remove"},

	{method: http.MethodPost, path: "/v1/queues/{queue}/messages", call: "Messages.Send", body: true, bound: maxSend},
	{method: http.MethodGet, path: "/v1/queues/{queue}/messages", call: "Messages.Peek"},
	{method: http.MethodPost, path: "/v1/queues/{queue}/messages/receive", call: "Messages.Receive", body: true},
	{method: http.MethodPost, path: "/v1/queues/{queue}/messages/ack", call: "Messages.Ack", body: true},
	{method: http.MethodPost, path: "/v1/queues/{queue}/messages/release", call: "Messages.Release", body: true},
	{method: http.MethodPost, path: "/v1/queues/{queue}/messages/purge", call: "Messages.Purge", body: true},
	{method: http.MethodPost, path: "/v1/queues/{queue}/messages/redrive", call: "Messages.Redrive", body: true},

	{method: http.MethodPost, path: "/v1/functions", call: "Functions.Register", body: true, bound: maxFunction},
	{method: http.MethodGet, path: "/v1/functions", call: "Functions.List"},
	{method: http.MethodGet, path: "/v1/functions/{id}", call: "Functions.Get"},
	{method: http.MethodDelete, path: "/v1/functions/{id}", call: "Functions.Remove"},

	{method: http.MethodGet, path: "/v1/kv", call: "KV.List"},
	{method: http.MethodGet, path: "/v1/kv/{key...}", call: "KV.Get", serve: (*exchange).getValue, extra: getValueDoc},
	{method: http.MethodPut, path: "/v1/kv/{key...}", call: "KV.Put", fixed: []string{"value", "if_absent", "if_version"}, serve: (*exchange).putValue, extra: putValueDoc},
	{method: http.MethodDelete, path: "/v1/kv/{key...}", call: "KV.Delete", fixed: []string{"if_version"}, serve: (*exchange).deleteValue, extra: ifMatchDoc},
	{method: http.MethodGet, path: "/v1/watch/kv", call: "KV.Watch"},

	{method: http.MethodGet, path: "/v1/files", call: "Files.List", serve: (*exchange).listFiles, extra: listFilesDoc},
	{method: http.MethodGet, path: "/v1/files/{key...}", call: "Files.Get", fixed: []string{"offset", "length"}, serve: (*exchange).getFile, extra: getFileDoc},
	{method: http.MethodHead, path: "/v1/files/{key...}", call: "Files.Stat", serve: (*exchange).getFile, extra: statFileDoc},
	{method: http.MethodPut, path: "/v1/files/{key...}", call: "Files.Put", serve: (*exchange).putFile, extra: putFileDoc},
	{method: http.MethodDelete, path: "/v1/files/{key...}", call: "Files.Remove", serve: (*exchange).removeFile, extra: removeFileDoc},

	{method: http.MethodGet, path: "/v1/whoami", call: "Identity.Whoami"},
	{method: http.MethodGet, path: "/v1/certificates", call: "Identity.Certificates"},
	{method: http.MethodPost, path: "/v1/certificates/revoke", call: "Identity.Revoke", body: true},
	{method: http.MethodGet, path: "/v1/tokens", call: "Identity.Tokens"},
	{method: http.MethodDelete, path: "/v1/tokens/{id}", call: "Identity.RevokeToken"},
}

// routes are those of the list with what they name. That is looked up when somebody serves or
// describes them: every worker and every command would pay for it at its start.
var routes = sync.OnceValue(func() []route { return resolve(routeList) })

func create(m proto.Message) { m.(*navvyv1.QueuesSetRequest).Create = true }

// resolve finds what the routes name. A name that the schema does not have is a
// programmer's error.
func resolve(list []route) []route {
	for i := range list {
		r := &list[i]
		d, err := protoregistry.GlobalFiles.FindDescriptorByName("navvy.v1." + protoreflect.FullName(r.call))
		if err != nil {
			panic(fmt.Errorf("rest: %s: %w", r.path, err))
		}
		r.desc = d.(protoreflect.MethodDescriptor)
		r.segments = strings.Split(r.path, "/")
		if r.name == "" {
			r.name = r.call
		}
	}
	return list
}

// fullMethod is the call's name in gRPC.
func (r *route) fullMethod() string {
	return "/" + string(r.desc.Parent().FullName()) + "/" + string(r.desc.Name())
}

// request makes an empty message of the call.
func (r *route) request() proto.Message { return newMessage(r.desc.Input()) }

// response makes an empty message for the answer.
func (r *route) response() proto.Message { return newMessage(r.desc.Output()) }

func newMessage(d protoreflect.MessageDescriptor) proto.Message {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		panic(fmt.Errorf("rest: %w", err)) // the call is registered, and so is this
	}
	return t.New().Interface()
}

// variables are the names in the path.
func (r *route) variables() []string {
	var list []string
	for _, s := range r.segments {
		if name, ok := variable(s); ok {
			list = append(list, name)
		}
	}
	return list
}

// offers tells whether a field of the request comes in the query or the body.
func (r *route) offers(f protoreflect.FieldDescriptor) bool {
	return !slices.Contains(r.variables(), string(f.Name())) && !slices.Contains(r.fixed, string(f.Name()))
}

// variable is the name in a segment like {name}.
func variable(segment string) (string, bool) {
	name, ok := strings.CutPrefix(segment, "{")
	return strings.TrimSuffix(strings.TrimSuffix(name, "}"), "..."), ok
}

// match tells whether an escaped path is the route's, and what its variables stand for.
func (r *route) match(segments []string) (map[string]string, bool) {
	var vars map[string]string
	for i, s := range r.segments {
		if i >= len(segments) {
			return nil, false
		}
		name, ok := variable(s)
		if !ok {
			if s != segments[i] {
				return nil, false
			}
			continue
		}
		text := segments[i]
		rest := strings.HasSuffix(s, "...}")
		if rest {
			text = strings.Join(segments[i:], "/")
		}
		value, err := unescape(text)
		if err != nil || value == "" {
			return nil, false
		}
		if vars == nil {
			vars = map[string]string{}
		}
		if vars[name] = value; rest {
			return vars, true
		}
	}
	return vars, len(segments) == len(r.segments)
}

// find gives the route of a request; if there is none, the methods that its path has.
func find(method, path string) (found *route, vars map[string]string, allowed []string) {
	segments := strings.Split(path, "/")
	list := routes()
	for i := range list {
		r := &list[i]
		v, ok := r.match(segments)
		if ok && r.method == method {
			return r, v, nil
		}
		if ok {
			allowed = append(allowed, r.method)
		}
	}
	return nil, nil, allowed
}
