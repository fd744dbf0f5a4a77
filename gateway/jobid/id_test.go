package jobid

import (
	"errors"
	"regexp"
	"testing"

	"github.com/navvy-run/navvy"
)

var uuid8 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// A job has one UUID of each kind for ever, from which its id comes back.
func TestUUID(t *testing.T) {
	t.Parallel()
	for kind, known := range map[Kind]string{
		JobRunner: "00443214-c742-854b-ab03-708f761a6cb2",
		FaaS:      "00443214-c742-854b-9794-f587854270c2",
	} {
		if got := kind.UUID("0123456789ab"); got != known {
			t.Errorf("the UUID of a %shas become %s, and was %s", kind, got, known)
		}
	}
	for range 1000 {
		id := navvy.NewJobID()
		text := FaaS.UUID(id)
		if !uuid8.MatchString(text) {
			t.Fatalf("%s is no UUID of version 8", text)
		}
		if back, err := FaaS.Job(text); back != id || err != nil {
			t.Fatalf("%s became %s, which is %s, %v", id, text, back, err)
		}
		if _, err := JobRunner.Job(text); !errors.Is(err, navvy.ErrNotFound) {
			t.Fatalf("%s is of another kind: %v", text, err)
		}
	}
}

func FuzzJob(f *testing.F) {
	f.Add(JobRunner.UUID("0123456789ab"))
	f.Add("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := JobRunner.Job(text); err == nil && (id.Validate() != nil || len(text) != 36) {
			t.Errorf("%q became %q", text, id)
		}
	})
}
