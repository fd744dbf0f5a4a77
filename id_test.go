package navvy

import (
	"errors"
	"testing"
)

func TestUUID(t *testing.T) {
	t.Parallel()
	b := [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}
	if got := UUID(b); got != "01234567-89ab-cdef-fedc-ba9876543210" {
		t.Error(got)
	}
}

// What String writes is read again, and nothing else.
func TestParseTaskID(t *testing.T) {
	t.Parallel()
	want := TaskID{Job: "0123456789ab", Index: 17}
	if got, err := ParseTaskID(want.String()); err != nil || got != want {
		t.Errorf("%s is read as %s, %v", want, got, err)
	}
	for _, bad := range []string{"", "0123456789ab", "0123456789ab/", "0123456789ab/-1", "0123456789ab/01", "0123456789ab/1/2", "short/1", "0123456789ab/9223372036854775808"} {
		if _, err := ParseTaskID(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
