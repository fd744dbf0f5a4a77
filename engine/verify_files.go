package engine

import (
	"crypto/sha256"
	"errors"
	"io"
	"math"

	"github.com/navvy-run/navvy/engine/driver"
)

// files reads each file, judges its checksum, and sees that the map has no content more
// than files name.
func (v *verifier) files() error {
	inline := int64(0)
	err := v.e.store.Scan(v.ctx, driver.Prefix([]byte{tableFile}), func(key, value []byte) error {
		v.Files++
		f, err := decodeFile(string(key[1:]), value)
		if err != nil {
			return v.found(err)
		}
		if !f.Logged {
			inline++
		}
		return v.found(v.file(&f))
	})
	if err != nil {
		return err
	}
	err = v.e.store.Scan(v.ctx, driver.Prefix([]byte{tableContent}), func([]byte, []byte) error {
		inline--
		return nil
	})
	if err != nil {
		return err
	}
	if inline != 0 {
		v.corrupt("the contents of small files and the files that name them differ by %d", inline)
	}
	return v.e.store.Scan(v.ctx, driver.Prefix([]byte{tableLoose}), func(key, _ []byte) error {
		_, err := splitContentKey(key)
		return v.found(err)
	})
}

// file reads one file to its end.
func (v *verifier) file(f *File) error {
	r, err := v.e.Files().Open(v.ctx, f.Name)
	if err != nil {
		return err
	}
	digest := sha256.New()
	n, err := io.Copy(digest, io.NewSectionReader(r, 0, math.MaxInt64))
	v.FileBytes += n
	if err = errors.Join(err, r.Close()); err == nil && [sha256.Size]byte(digest.Sum(nil)) != f.SHA256 {
		v.corrupt("file %q does not hold what was put: its checksum is another", f.Name)
	}
	return err
}
