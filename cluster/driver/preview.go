package driver

import "context"

// Previewer is a Driver whose provider can itself tell what putting a resource would change. Its
// method may be called by many at once, and by whoever has no lock.
type Previewer interface {
	// Preview asks the provider, a line for each change, for people; it tells no secrets and
	// changes nothing. There are none of a cluster that is not there yet. An error says
	// that the provider would refuse it, or could not tell.
	Preview(ctx context.Context, cluster string, r *Resource) ([]string, error)
}
