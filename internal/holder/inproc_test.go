package holder

import (
	"errors"
	"testing"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// In one process a message arrives with the very memory that was sent.
func TestSharing(t *testing.T) {
	t.Parallel()
	sent := &navvyv1.Inputs{Inputs: [][]byte{[]byte("first"), []byte("second")}}
	got := &navvyv1.Inputs{}
	if err := (sharing{}).Copy(got, sent); err != nil {
		t.Fatal(err)
	}
	if len(got.GetInputs()) != 2 || &got.GetInputs()[1][0] != &sent.GetInputs()[1][0] {
		t.Errorf("the inputs were copied: %v", got)
	}
	if same, err := (sharing{}).Clone(sent); same != any(sent) || err != nil {
		t.Errorf("the message was copied: %v", err)
	}
	for name, pair := range map[string][2]any{
		"another message": {&navvyv1.Seal{}, sent},
		"no message":      {new(int), sent},
		"nothing":         {got, (*navvyv1.Inputs)(nil)},
		"no pointer":      {1, 1},
	} {
		if err := (sharing{}).Copy(pair[0], pair[1]); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
