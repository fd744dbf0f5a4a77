package auth

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
)

// Role is what somebody is allowed to. The empty role is nobody's: that of a
// connection without a certificate, which may only join.
type Role string

// The roles.
const (
	RoleNobody Role = ""
	RoleUser   Role = "user"   // sees and changes its own jobs
	RoleAdmin  Role = "admin"  // may do everything to any job, and issues certificates
	RoleViewer Role = "viewer" // sees all jobs and changes nothing
	RoleWorker Role = "worker" // runs attempts, and sees no jobs but those
)

// ServerRole is what a server's certificate carries where a client's has its role.
const ServerRole = "server"

// Roles are those that a certificate can carry, in the order in which they are told.
func Roles() []Role { return []Role{RoleUser, RoleAdmin, RoleViewer, RoleWorker} }

// ParseRole reads the role of a client. The error wraps navvy.ErrInvalid and names the roles.
func ParseRole(s string) (Role, error) {
	for _, r := range Roles() {
		if string(r) == s {
			return r, nil
		}
	}
	return RoleNobody, fmt.Errorf("role %q: want user, admin, viewer or worker: %w", s, navvy.ErrInvalid)
}

// Identity is who makes a call.
type Identity struct {
	Name   string // the certificate's common name, or the local account's
	Role   Role
	Serial string // of the certificate, see Serial; empty if local
	// Local says that the call comes from this process or over the unix socket,
	// from the account that holds the data directory. It may do what an admin and
	// a worker may.
	Local bool
	// Token is the id of the API token that the call was made with; empty if none was.
	// Serial is then that of the certificate with which it was made.
	Token string
	// Expires is when what the call was made with ends, and From where it came from,
	// for calls that came in over HTTP.
	Expires time.Time
	From    string
}

type identityKey struct{}

// With gives a context that carries an identity.
func With(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// From is the identity that a call's context carries: nobody if it has none.
func From(ctx context.Context) Identity {
	id, _ := ctx.Value(identityKey{}).(Identity)
	return id
}

// maxName is how long a name may be: as long as a certificate's common name.
const maxName = 64

// ValidateName tells whether somebody can be called so: 1 to 64 characters of
// ASCII letters, digits and . _ @ + -, the first a letter, a digit or _. The error
// wraps navvy.ErrInvalid.
func ValidateName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("name %q: a name has 1 to %d characters: %w", name, maxName, navvy.ErrInvalid)
	}
	for i, r := range name {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_'
		if !alnum && (i == 0 || !strings.ContainsRune(".@+-", r)) {
			return fmt.Errorf("name %q: %q cannot stand there; a name is made of letters, digits and . _ @ + -, and begins with a letter or digit: %w", name, r, navvy.ErrInvalid)
		}
	}
	return nil
}

// Serial writes a certificate's serial number as navvy shows and stores it: in
// lower-case hexadecimal digits, without leading zeros.
func Serial(n *big.Int) string { return n.Text(16) }

// ParseSerial reads a serial number as people write it: hexadecimal digits, also
// in upper case or with colons between them. The error wraps navvy.ErrInvalid.
func ParseSerial(s string) (string, error) {
	digits := strings.ReplaceAll(s, ":", "")
	n, ok := new(big.Int).SetString(digits, 16)
	if !ok || len(digits) > 2*maxSerial || n.Sign() <= 0 || strings.ContainsAny(digits, "+-_") {
		return "", fmt.Errorf("serial %q: want up to %d hexadecimal digits: %w", s, 2*maxSerial, navvy.ErrInvalid)
	}
	return Serial(n), nil
}

// maxSerial is how many bytes a serial number may have, by RFC 5280, 4.1.2.2.
const maxSerial = 20

// Of is the identity that a client's certificate stands for: its common name is
// the name, its one organizational unit the role. Whoever calls has verified the
// certificate. The error wraps navvy.ErrDenied and says what is wrong with it.
func Of(cert *x509.Certificate) (Identity, error) {
	id := Identity{Name: cert.Subject.CommonName, Serial: Serial(cert.SerialNumber)}
	if err := ValidateName(id.Name); err != nil {
		return Identity{}, fmt.Errorf("the certificate %s names nobody (%w): %w", id.Serial, err, navvy.ErrDenied)
	}
	if units := cert.Subject.OrganizationalUnit; len(units) != 1 {
		return Identity{}, fmt.Errorf("the certificate of %s has %d organizational units (OU), and needs one, which is its role: %w", id.Name, len(units), navvy.ErrDenied)
	}
	role, err := ParseRole(cert.Subject.OrganizationalUnit[0])
	if err != nil {
		return Identity{}, fmt.Errorf("the certificate of %s carries in its organizational unit (OU) no role (%w): %w", id.Name, err, navvy.ErrDenied)
	}
	id.Role = role
	return id, nil
}
