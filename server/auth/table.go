package auth

import (
	"maps"
	"slices"
)

// who are the roles that may make a call.
type who struct {
	user, admin, viewer, worker, nobody bool
}

var (
	anybody  = who{user: true, admin: true, viewer: true, worker: true} // with a certificate
	readers  = who{user: true, admin: true, viewer: true}
	changers = who{user: true, admin: true}
	admins   = who{admin: true}
	watchers = who{admin: true, viewer: true}
	workers  = who{worker: true}
	joiners  = who{nobody: true}
)

// table is the one place that says who may call what. A call that is not in it is
// refused for everybody. A user's calls are about its own jobs only, and a worker's
// about the attempts leased to it: whoever serves them sees to that.
var table = map[string]who{
	"/navvy.v1.Jobs/Submit":     changers,
	"/navvy.v1.Jobs/Run":        changers,
	"/navvy.v1.Jobs/Find":       readers,
	"/navvy.v1.Jobs/Get":        readers,
	"/navvy.v1.Jobs/List":       readers,
	"/navvy.v1.Jobs/Watch":      readers,
	"/navvy.v1.Jobs/Results":    readers, // to mark them as read is a change, which the server refuses to a viewer
	"/navvy.v1.Jobs/Printed":    changers,
	"/navvy.v1.Jobs/Task":       readers,
	"/navvy.v1.Jobs/ReadOutput": readers,
	"/navvy.v1.Jobs/Hold":       changers,
	"/navvy.v1.Jobs/Resume":     changers,
	"/navvy.v1.Jobs/Stop":       changers,
	"/navvy.v1.Jobs/Retry":      changers,
	"/navvy.v1.Jobs/Remove":     changers,
	"/navvy.v1.Jobs/Overview":   readers,

	"/navvy.v1.Queues/List":   readers,
	"/navvy.v1.Queues/Set":    admins,
	"/navvy.v1.Queues/Pause":  admins,
	"/navvy.v1.Queues/Resume": admins,
	"/navvy.v1.Queues/Remove": admins,

	// Messages belong to whoever sent them, and so do their answers.
	"/navvy.v1.Messages/Send":    changers,
	"/navvy.v1.Messages/Receive": changers,
	"/navvy.v1.Messages/Ack":     changers,
	"/navvy.v1.Messages/Release": changers,
	"/navvy.v1.Messages/Peek":    changers,
	"/navvy.v1.Messages/Purge":   changers,
	"/navvy.v1.Messages/Redrive": changers,

	"/navvy.v1.Workers/Work":        workers,
	"/navvy.v1.Workers/WriteOutput": workers,
	"/navvy.v1.Workers/Function":    workers,
	"/navvy.v1.Workers/Closed":      workers,

	// A function belongs to its owner, and nobody else is told of it.
	"/navvy.v1.Functions/Register": changers,
	"/navvy.v1.Functions/List":     changers,
	"/navvy.v1.Functions/Get":      changers,
	"/navvy.v1.Functions/Remove":   changers,

	"/navvy.v1.Fleet/List":   readers,
	"/navvy.v1.Fleet/Drain":  admins,
	"/navvy.v1.Fleet/Remove": admins,

	// Values belong to their owner, and nobody else sees them but an admin who asks
	// for them by the owner's name. A viewer writes none and so has none.
	"/navvy.v1.KV/Put":    changers,
	"/navvy.v1.KV/Get":    changers,
	"/navvy.v1.KV/List":   changers,
	"/navvy.v1.KV/Delete": changers,
	"/navvy.v1.KV/Watch":  changers,

	// A task has no certificate: its worker calls for it, for its owner's values alone.
	"/navvy.v1.TaskKV/Put":    workers,
	"/navvy.v1.TaskKV/Get":    workers,
	"/navvy.v1.TaskKV/List":   workers,
	"/navvy.v1.TaskKV/Delete": workers,
	"/navvy.v1.TaskKV/Watch":  workers,

	// So it is with files.
	"/navvy.v1.Files/Put":      changers,
	"/navvy.v1.Files/PutKnown": changers,
	"/navvy.v1.Files/Get":      changers,
	"/navvy.v1.Files/Stat":     changers,
	"/navvy.v1.Files/List":     changers,
	"/navvy.v1.Files/Remove":   changers,
	"/navvy.v1.TaskFiles/Put":  workers,
	"/navvy.v1.TaskFiles/Get":  workers,
	"/navvy.v1.TaskFiles/Stat": workers,
	"/navvy.v1.TaskFiles/List": workers,

	"/navvy.v1.TaskFiles/GetPackage": workers,

	"/navvy.v1.Identity/Join":         joiners,
	"/navvy.v1.Identity/Whoami":       anybody,
	"/navvy.v1.Identity/Renew":        anybody,
	"/navvy.v1.Identity/Issue":        admins,
	"/navvy.v1.Identity/Certificates": admins,
	"/navvy.v1.Identity/Revoke":       admins,
	"/navvy.v1.Identity/CreateToken":  admins,
	// A token for the API is its maker's, who sees and revokes it, as admins do all.
	"/navvy.v1.Identity/CreateAPIToken": readers,
	"/navvy.v1.Identity/Tokens":         readers,
	"/navvy.v1.Identity/RevokeToken":    readers,

	"/apis.JobRunner/Start":        changers,
	"/apis.JobRunner/Stop":         changers,
	"/apis.JobRunner/Query":        readers,
	"/apis.JobRunner/StreamOutput": readers,

	// How much there is to do in all queues, on an address of its own.
	"/externalscaler.ExternalScaler/IsActive":       watchers,
	"/externalscaler.ExternalScaler/StreamIsActive": watchers,
	"/externalscaler.ExternalScaler/GetMetricSpec":  watchers,
	"/externalscaler.ExternalScaler/GetMetrics":     watchers,

	"/grpc.health.v1.Health/Check":                                   anybody,
	"/grpc.health.v1.Health/List":                                    anybody,
	"/grpc.health.v1.Health/Watch":                                   anybody,
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      anybody,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": anybody,
}

// Methods are the full names of all calls in the table, sorted.
func Methods() []string { return slices.Sorted(maps.Keys(table)) }

// MayCall tells whether somebody may make the call with this full name. Who is
// local may also do what a worker may.
func MayCall(id Identity, method string) bool {
	w := table[method]
	switch {
	case id.Local && w.worker:
		return true
	case id.Role == RoleUser:
		return w.user
	case id.Role == RoleAdmin:
		return w.admin
	case id.Role == RoleViewer:
		return w.viewer
	case id.Role == RoleWorker:
		return w.worker
	case id.Role == RoleNobody && id == Identity{}:
		return w.nobody
	}
	return false
}

// administers tells whether a call is for nobody but admins, so that each is worth a line in the audit log.
func administers(method string) bool { return table[method] == admins }

// SeesAll tells whether somebody sees the jobs of all owners.
func (id Identity) SeesAll() bool { return id.Role == RoleAdmin || id.Role == RoleViewer }
