// Package faas serves the REST contract of the MPCS FaaS, so that its clients work
// against navvy unchanged: functions are registered, called, and asked after, with
// pickles in base 64. It is a thin adapter: a task of that service is a detached job of
// one task, and every call goes through package client as its caller. Pickles are looked
// at by their structure, and opened by nobody but the process that runs the function.
// docs/gateways.md says what maps to what.
package faas
