// Package api is the boundary of navvy: the protobuf schema under navvy/v1 with
// its generated code, the conversion of its messages from and to the domain, and
// the one table of errors, gRPC codes, HTTP statuses and exit codes.
//
// Messages that were sent are shared between client and server when both are in
// one process: nobody changes one afterwards, or keeps a part of one that somebody else
// may change.
package api
