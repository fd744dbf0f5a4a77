package drivertest

import (
	"testing"

	"github.com/navvy-run/navvy/engine/driver"
)

// testBatch checks that changes are made in their order, all of them.
func testBatch(t *testing.T, h Harness) {
	s := open(t, h)
	apply(t, s, puts(pair{"a", "1"}, pair{"b", "1"}, pair{"c", "1"}, pair{"d", "1"}, pair{"e", "1"}))

	b := new(driver.Batch)
	b.Put([]byte("a"), []byte("2"))
	b.Put([]byte("a"), []byte("3"))
	b.Put([]byte("b"), []byte("gone"))
	b.Put([]byte("bb"), []byte("gone"))
	b.DeleteRange([]byte("b"), []byte("d"))
	b.Put([]byte("c"), []byte("again"))
	b.Delete([]byte("d"))
	b.Put([]byte("d"), []byte("back"))
	b.Put([]byte("e"), []byte("2"))
	b.Delete([]byte("e"))
	apply(t, s, b)
	expectScan(t, s, driver.Range{}, pair{"a", "3"}, pair{"c", "again"}, pair{"d", "back"})

	// Ranges in a row, one in another, empty ones, backward ones, behind all.
	b = new(driver.Batch)
	b.Put([]byte("x"), []byte("1"))
	b.DeleteRange([]byte("x"), []byte("x"))
	b.DeleteRange([]byte("z"), []byte("a"))
	b.DeleteRange([]byte("a"), []byte("d"))
	b.DeleteRange([]byte("b"), []byte("c"))
	b.Put([]byte("b"), []byte("kept"))
	b.DeleteRange([]byte("c"), []byte("d"))
	apply(t, s, b)
	expectScan(t, s, driver.Range{}, pair{"b", "kept"}, pair{"d", "back"}, pair{"x", "1"})

	b = new(driver.Batch)
	b.Put([]byte("\xff\xff\xff"), []byte("last"))
	b.DeleteRange([]byte("c"), nil)
	apply(t, s, b)
	expectScan(t, s, driver.Range{}, pair{"b", "kept"})

	// A deleted range can be filled again, and deleted again.
	for range 3 {
		b = puts(pair{"p/1", "v"}, pair{"p/2", "v"}, pair{"q", "v"})
		apply(t, s, b)
		expectScan(t, s, driver.Prefix([]byte("p/")), pair{"p/1", "v"}, pair{"p/2", "v"})
		b = new(driver.Batch)
		b.DeleteRange([]byte("p/"), driver.PrefixEnd([]byte("p/")))
		apply(t, s, b)
		expectScan(t, s, driver.Prefix([]byte("p/")))
	}
	expect(t, s, "q", []byte("v"))

	// Append and Reset.
	one, two := puts(pair{"r", "1"}), puts(pair{"r", "2"})
	one.Append(two)
	apply(t, s, one)
	expect(t, s, "r", []byte("2"))
	one.Reset()
	if !one.Empty() || one.Size() != 0 {
		t.Errorf("a reset batch holds %d bytes", one.Size())
	}
}
