package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/navvy-run/navvy"
)

// refused tells whether the server itself has answered with an error, so that
// it is known that nothing was changed. A server that shuts down, or kills the
// session, gives an answer too, after which the connection is gone.
func refused(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && answer.Severity == "ERROR" && !strings.HasPrefix(answer.Code, "57P")
}

// sentinels are the codes of the server that mean something to our callers; a
// code of two characters is a whole class.
var sentinels = map[string]error{
	"28":    navvy.ErrDenied,      // wrong password, no entry in pg_hba.conf
	"42501": navvy.ErrDenied,      // no right
	"3D000": navvy.ErrNotFound,    // no such database
	"53100": navvy.ErrExhausted,   // disk full
	"XX001": navvy.ErrCorrupt,     // damaged table
	"XX002": navvy.ErrCorrupt,     // damaged index
	"0A":    navvy.ErrUnsupported, // a service that is not quite PostgreSQL
}

// known gives an error of the server or of the way to it its sentinel. The
// driver's errors name host, user and database, never the password.
func known(err error) error {
	for _, sentinel := range []error{
		navvy.ErrUnavailable, navvy.ErrClosed, navvy.ErrCorrupt, navvy.ErrNotFound, navvy.ErrInvalid, navvy.ErrConflict,
	} {
		if errors.Is(err, sentinel) {
			return err
		}
	}
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		for _, code := range []string{answer.Code, answer.Code[:min(2, len(answer.Code))]} {
			if sentinel := sentinels[code]; sentinel != nil {
				return fmt.Errorf("%w: %w", sentinel, err)
			}
		}
	}
	return fmt.Errorf("%w: %w", navvy.ErrUnavailable, err)
}
