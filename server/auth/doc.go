// Package auth is who is calling, and what they may do: certificates and the
// authority that issues them, roles, the table from role to call, the gate that
// asks it for each call, and tokens with which a worker joins. Both ends of a
// connection import it; it knows the domain and gRPC, nothing else of navvy.
// docs/security.md describes it.
package auth
