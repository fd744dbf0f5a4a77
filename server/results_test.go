package server

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/navvy-run/navvy"
)

// indexSet is a bitmap of all kinds of containers.
func indexSet(t testing.TB) []byte {
	t.Helper()
	set := roaring.BitmapOf(1, 2, 3, 100000, 200000)
	set.AddRange(300000, 400000)
	for i := range uint32(5000) {
		set.Add(1<<20 + 3*i)
	}
	b, err := set.ToBytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// useBitmap does with foreign bytes what the server does with them.
func useBitmap(t *testing.T, b []byte) {
	t.Helper()
	set, err := bitmap(b)
	if err != nil {
		if !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%v is not ErrInvalid", err)
		}
		return
	}
	printed := roaring.BitmapOf(5, 7, 350000)
	printed.Or(set)
	printed.RunOptimize()
	joined, err := printed.ToBytes()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := bitmap(joined); err != nil || !again.Contains(5) {
		t.Errorf("what was joined is refused: %v", err)
	}
	set.CheckedAdd(6)
}

// TestDamagedBitmap sees that a bitmap with some bytes changed is refused or is
// one, and never brings the server down.
func TestDamagedBitmap(t *testing.T) {
	t.Parallel()
	good := indexSet(t)
	random := rand.New(rand.NewPCG(1, 2))
	head := min(len(good), 200) // where the kinds and numbers of containers are
	for range 20000 {
		b := append([]byte{}, good...)
		for range 1 + random.IntN(4) {
			b[random.IntN(head)] = byte(random.IntN(256))
		}
		useBitmap(t, b)
	}
}

// FuzzBitmap gives foreign bytes to what reads the indexes of a call.
func FuzzBitmap(f *testing.F) {
	f.Add(indexSet(f))
	f.Add([]byte("no bitmap"))
	f.Fuzz(useBitmap)
}
