// Package jobrunner serves the gRPC service apis.JobRunner, so that clients of the
// Remote Job Worker Service work against navvy unchanged. It is a thin adapter: a job
// of that service is a detached job of one task, and every call goes through package
// client as its caller. docs/gateways.md says what maps to what.
package jobrunner
