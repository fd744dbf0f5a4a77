// Package records is how gateways keep what must survive a restart and is no job: small
// values by name, in the server's store.
package records

import "context"

// Store keeps the records of one gateway. Its methods may be called at once; who implements
// it is the server.
type Store interface {
	// List gives at most limit records whose names begin with prefix and come after
	// the name after, in byte order, and the name to go on after: empty at the end.
	List(ctx context.Context, prefix, after string, limit int) (list []Record, next string, err error)
	// Apply makes changes, all or none; they are durable when it returns.
	Apply(ctx context.Context, changes ...Change) error
}

// Record is a value with its name.
type Record struct {
	Name  string
	Value []byte
}

// Change writes a record, or with Delete takes it away; it need not exist.
type Change struct {
	Record
	Delete bool
}

// Removal takes a record away.
func Removal(name string) Change { return Change{Record: Record{Name: name}, Delete: true} }

// Each gives all records of a prefix, in byte order.
func Each(ctx context.Context, s Store, prefix string, yield func(*Record) error) error {
	for after := ""; ; {
		list, next, err := s.List(ctx, prefix, after, page)
		if err != nil {
			return err
		}
		for i := range list {
			if err := yield(&list[i]); err != nil {
				return err
			}
		}
		if after = next; after == "" {
			return nil
		}
	}
}

// page is how many records are read at once.
const page = 1000
