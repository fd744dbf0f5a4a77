package pebble

import (
	"bytes"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/navvy-run/navvy/engine/driver"
)

// FuzzRecords reads any bytes as a manifest. It must find just the records that
// the storage engine finds, and come to an end.
func FuzzRecords(f *testing.F) {
	var good bytes.Buffer
	w := record.NewWriter(&good)
	for _, size := range []int{10, 0, 33_000, 100} {
		r, err := w.Next()
		if err != nil {
			f.Fatal(err)
		}
		if _, err := r.Write(bytes.Repeat([]byte{byte(size)}, size)); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add(good.Bytes()[:good.Len()/2])
	f.Add([]byte("no records"))
	f.Add(make([]byte, 40_000))
	f.Fuzz(func(t *testing.T, file []byte) {
		want := 0
		theirs := record.NewReader(bytes.NewReader(file), 0)
		for {
			r, err := theirs.Next()
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if err != nil {
				break
			}
			want++
		}
		got := 0
		ours := &recordFile{r: bytes.NewReader(file)}
		lost, err := ours.records(func([]byte) { got++ }, func(chunk) {})
		if err != nil || lost > int64(len(file)) {
			t.Fatalf("lost %d of %d bytes, %v", lost, len(file), err)
		}
		if got != want {
			t.Errorf("found %d records, the storage engine %d", got, want)
		}
	})
}

// FuzzLog reads any bytes as the newest log, and any batch for its mark.
func FuzzLog(f *testing.F) {
	fs := vfs.NewMem()
	s, err := Open("/store", &Options{FS: fs})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 20 {
		b := new(driver.Batch)
		b.Put([]byte{byte(i + 1)}, bytes.Repeat([]byte{byte(i)}, i*20))
		if err := s.Apply(f.Context(), b); err != nil {
			f.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	name, number, err := newestLog(fs, "/store")
	if err != nil {
		f.Fatal(err)
	}
	log, err := readFile(fs, "/store/"+name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(log)
	f.Add(log[:len(log)/2])
	f.Add(log[:100])
	f.Fuzz(func(t *testing.T, file []byte) {
		lost, _, err := checkLog(&recordFile{r: bytes.NewReader(file), log: true, number: uint32(number)})
		if err != nil || lost > int64(len(file)) {
			t.Fatalf("lost %d of %d bytes, %v", lost, len(file), err)
		}
		markOf(file)
	})
}
