package pebble

import (
	"bytes"
	"errors"
	"slices"

	lsm "github.com/cockroachdb/pebble/v2"

	"github.com/navvy-run/navvy/engine/driver"
)

// manyAbsent is from how many conditions on absent keys on one walk over the
// keys that exist is cheaper than a look for each: the keys of a batch of
// results lie close together, and nothing between them. Keys of many jobs do not,
// and a look, which filters spare the disk, costs less than a step of the walk.
const manyAbsent = 8

// near tells whether keys most likely lie close together: most share more than half of
// their bytes with the one before.
func near(keys [][]byte) bool {
	n := 0
	for i, key := range keys[1:] {
		if half := len(key)/2 + 1; len(keys[i]) >= half && bytes.Equal(key[:half], keys[i][:half]) {
			n++
		}
	}
	return n > len(keys)/2
}

// unmet lists the keys of the conditions that do not hold.
func (s *Store) unmet(conditions []driver.Condition) ([][]byte, error) {
	var failed, absent [][]byte
	for _, c := range conditions {
		if c.Absent {
			absent = append(absent, c.Key)
			continue
		}
		met, err := s.holds(&c)
		if err != nil {
			return nil, err
		}
		if !met {
			failed = append(failed, bytes.Clone(c.Key))
		}
	}
	present, err := s.present(absent)
	return append(failed, present...), err
}

// holds judges one condition.
func (s *Store) holds(c *driver.Condition) (bool, error) {
	value, closer, err := s.db.Get(c.Key)
	if errors.Is(err, lsm.ErrNotFound) {
		return c.Absent, nil
	}
	if err != nil {
		return false, s.readError(err)
	}
	met := !c.Absent && bytes.Equal(value, c.Value)
	if err := closer.Close(); err != nil {
		return false, s.readError(err)
	}
	return met, nil
}

// present gives those of the keys that exist. It may put keys into another order.
func (s *Store) present(keys [][]byte) (found [][]byte, err error) {
	if len(keys) >= manyAbsent && near(keys) {
		if found, keys, err = s.walk(keys); err != nil {
			return nil, err
		}
	}
	for _, key := range keys {
		absent, err := s.holds(&driver.Condition{Key: key, Absent: true})
		if err != nil {
			return nil, err
		}
		if !absent {
			found = append(found, bytes.Clone(key))
		}
	}
	return found, nil
}

// walk gives those of the keys that exist, as far as they lie close together, and the
// keys that it did not come to.
func (s *Store) walk(keys [][]byte) (found, rest [][]byte, err error) {
	if !slices.IsSortedFunc(keys, bytes.Compare) {
		slices.SortFunc(keys, bytes.Compare)
	}
	last := keys[len(keys)-1]
	it, err := s.db.NewIter(&lsm.IterOptions{LowerBound: keys[0], UpperBound: append(bytes.Clone(last), 0)})
	if err != nil {
		return nil, nil, s.readError(err)
	}
	defer func() {
		if closeErr := it.Close(); closeErr != nil && err == nil {
			err = s.readError(closeErr)
		}
	}()
	valid, steps := it.First(), 1
	for i, key := range keys {
		if valid && bytes.Compare(it.Key(), key) < 0 {
			if steps >= manyAbsent/2 && i < 2*steps {
				return found, keys[i:], nil // they are scattered
			}
			valid = it.SeekGE(key)
			steps++
		}
		if !valid {
			break
		}
		if bytes.Equal(it.Key(), key) {
			found = append(found, bytes.Clone(key))
		}
	}
	if err := it.Error(); err != nil {
		return nil, nil, s.readError(err)
	}
	return found, nil, nil
}
