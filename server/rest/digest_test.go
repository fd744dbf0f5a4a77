package rest

import "testing"

// Whatever a header holds, what is made of it is a checksum, and written the same again.
func FuzzDigest(f *testing.F) {
	for _, seed := range []string{"", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", "md5=:AA==:, sha-256=:AA==:", "sha-256=::", "sha-256=:"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		sum, err := parseDigest(header)
		if err != nil || header == "" {
			return
		}
		again, err := parseDigest(formatDigest(sum))
		if err != nil || again != sum || len(sum) != 64 {
			t.Errorf("%q is %q, %q, %v", header, sum, again, err)
		}
	})
}
