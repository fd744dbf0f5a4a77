// Package rest is the API in JSON over HTTP, below /v1: each route is a call of the
// services of package server in the same process, as whoever calls over HTTP, through
// the same gate. One table (routes.go) says which; the OpenAPI document at
// /v1/openapi.json is made of it, of the schema and of the comments in that.
// docs/rest.md is for its users.
package rest
