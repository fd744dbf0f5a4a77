package engine

import (
	"github.com/navvy-run/navvy/engine/driver"
)

// values reads each value, and compares what an owner has with what is counted.
func (v *verifier) values() error {
	shelves := map[string]*Shelf{} // as counted here
	shelf := func(owner string) *Shelf {
		if shelves[owner] == nil {
			shelves[owner] = &Shelf{}
		}
		return shelves[owner]
	}
	err := v.e.store.Scan(v.ctx, driver.Prefix([]byte{tableValue}), func(stored, b []byte) error {
		v.Values++
		owner, key, err := splitValueKey(stored)
		if err != nil {
			return v.found(err)
		}
		value, err := decodeValue(key, b)
		if err != nil {
			return v.found(err)
		}
		s := shelf(owner)
		s.count(&value, 1)
		s.Version = max(s.Version, value.Version)
		return nil
	})
	if err != nil {
		return err
	}
	err = v.e.store.Scan(v.ctx, driver.Prefix([]byte{tableShelf}), func(stored, b []byte) error {
		owner := string(stored[1:])
		says, err := decodeShelf(owner, b)
		if err != nil {
			return v.found(err)
		}
		has := shelf(owner)
		delete(shelves, owner)
		if says.Keys != has.Keys || says.Bytes != has.Bytes {
			v.corrupt("%s is counted as having %d values of %d bytes, and has %d of %d", owner, says.Keys, says.Bytes, has.Keys, has.Bytes)
		}
		if has.Version > says.Version || says.Deleted > says.Version {
			v.corrupt("%s has a value of version %d, and a deletion of %d, after the last change, %d", owner, has.Version, says.Deleted, says.Version)
		}
		return nil
	})
	for owner := range shelves {
		v.corrupt("the values of %s are not counted", owner)
	}
	return err
}
