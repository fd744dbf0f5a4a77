package queue

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/navvy-run/navvy"
)

// untrusted turns the error of a first connection into navvy.ErrDenied if one of the two
// has not accepted the other's certificate: drivers' libraries tell that as any other
// connection that was not made, and time does not mend it.
func untrusted(err error) error {
	text := strings.TrimSuffix(err.Error(), ": "+navvy.ErrUnavailable.Error())
	_, ours := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case ours:
		return fmt.Errorf("%s: the option ca names the authority of a broker that the system does not know: %w", text, navvy.ErrDenied)
	case strings.Contains(text, "tls: certificate required"), strings.Contains(text, "tls: bad certificate"), strings.Contains(text, "tls: unknown certificate authority"):
		return fmt.Errorf("%s: the options cert and key say who we are: %w", text, navvy.ErrDenied)
	}
	return err
}
