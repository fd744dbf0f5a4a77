package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/navvy-run/navvy"
)

// explain says what an error of the API server, or of the way there, means and what to do. The
// server's own words name the verb, the resource and the namespace.
func (d *Driver) explain(err error) error {
	var network net.Error
	var call *url.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"):
		return fmt.Errorf("%w: the namespace has a quota: ask for less, or for a larger one: %w", err, navvy.ErrExhausted)
	case apierrors.HasStatusCause(err, "NamespaceTerminating"):
		return fmt.Errorf("%w: it is being removed; wait until it is gone: %w", err, navvy.ErrConflict)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%w: docs/cluster.md has the rights that it takes: %w", err, navvy.ErrDenied)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s does not know who you are (%w): sign in as kubectl wants it: %w", d.config.Host, err, navvy.ErrDenied)
	case noKind(err):
		return fmt.Errorf("the cluster does not know that kind: %w: %w", err, navvy.ErrUnsupported)
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%w: %w", err, navvy.ErrNotFound)
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return fmt.Errorf("%w: %w", err, navvy.ErrConflict)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return fmt.Errorf("the cluster refuses it: %w: %w", err, navvy.ErrInvalid)
	case apierrors.ReasonForError(err) != metav1.StatusReasonUnknown:
		return fmt.Errorf("%w: %w", err, navvy.ErrUnavailable)
	case errors.As(err, &call), errors.As(err, &network):
		return fmt.Errorf("%s does not answer (%w): is it up, and is that the right context?: %w", d.config.Host, err, navvy.ErrUnavailable)
	}
	return err
}

// noKind tells whether the API server has no such kind of objects, as before KEDA is installed.
func noKind(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details == nil || details.Name == "" || apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}
