package navvy

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestLimitsAreChecked(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		limits Limits
		want   string // part of the message; empty: they are fine
	}{
		{"none", Limits{}, ""},
		{"all", Limits{
			CPUs: 1500, CPUShares: 2, Memory: 1 << 29, PIDs: 64, ReadBPS: 1, WriteBPS: 1, ReadIOPS: 1, WriteIOPS: 1,
			Output: 1, Ulimits: []Ulimit{{"nofile", 64, Unlimited}, {"as", 1, 1}},
		}, ""},
		{"too little processor", Limits{CPUs: 9}, "limit cpus: 9 thousandths of a core are too few, 10 are the least"},
		{"negative", Limits{PIDs: -1}, "limit pids: -1"},
		{"too little memory", Limits{Memory: 4096}, "limit memory"},
		{"shares", Limits{CPUShares: 1 << 20}, "262144 are the most"},
		{"unknown ulimit", Limits{Ulimits: []Ulimit{{"nofiles", 1, 1}}}, `ulimit "nofiles"`},
		{"soft above hard", Limits{Ulimits: []Ulimit{{"nofile", 2, 1}}}, "above the hard one"},
		{"twice", Limits{Ulimits: []Ulimit{{"nofile", 1, 1}, {"nofile", 1, 1}}}, "given twice"},
	} {
		err := (&Spec{Noop: &Noop{}, Limits: tc.limits}).Validate()
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestNeeds(t *testing.T) {
	t.Parallel()
	s := &Spec{Limits: Limits{Memory: 1, WriteBPS: 1, Output: 1}, Network: NetworkNone}
	if got, want := s.Needs(), []Ability{AbilityMemory, AbilityWriteBPS, AbilityNetwork}; !slices.Equal(got, want) {
		t.Errorf("needs %q, want %q", got, want)
	}
	if got := (&Spec{Network: NetworkHost}).Needs(); len(got) != 0 {
		t.Errorf("a spec without limits needs %q", got)
	}
}

func TestZeroLimits(t *testing.T) {
	t.Parallel()
	if l := (&Limits{}); !l.Zero() {
		t.Error("the zero value bounds something")
	}
	limits := reflect.TypeFor[Limits]()
	for field := range limits.Fields() {
		var l Limits
		v := reflect.ValueOf(&l).Elem().FieldByIndex(field.Index)
		if v.Kind() == reflect.Slice {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		} else {
			v.SetInt(1)
		}
		if l.Zero() {
			t.Errorf("%s does not bound anything", field.Name)
		}
	}
}
