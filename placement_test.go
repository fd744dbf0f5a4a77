package navvy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPlacementIsChecked(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range MaxPlaces + 1 {
		many[fmt.Sprint("l", i)] = ""
	}
	for _, tc := range []struct {
		name      string
		labels    map[string]string
		resources map[string]int64
		want      string // part of the message; empty: they are fine
	}{
		{"none", nil, nil, ""},
		{"all", map[string]string{"zone": "eu 1", "x/y.z_0-1": ""}, map[string]int64{"gpu": 1, "licence/matlab": MaxUnits}, ""},
		{"upper case", map[string]string{"GPU": "x"}, nil, `label "GPU": want a name of 1 to 128 lower-case letters`},
		{"no name", map[string]string{"": "x"}, nil, `label ""`},
		{"inner space", map[string]string{"a b": "x"}, nil, `label "a b"`},
		{"long name", map[string]string{strings.Repeat("a", 129): "x"}, nil, "want a name of 1 to 128"},
		{"long value", map[string]string{"a": strings.Repeat("x", 129)}, nil, "label a: its value has 129 bytes"},
		{"value of two lines", map[string]string{"a": "x\ny"}, nil, `label a: its value "x\ny" is not plain text`},
		{"value that is not UTF-8", map[string]string{"a": "\xff"}, nil, "is not plain text"},
		{"many", many, nil, "labels: 65 are too many, 64 are the most"},
		{"none of it", nil, map[string]int64{"gpu": 0}, "resource gpu: want 1 to 1048576 of it, not 0"},
		{"negative", nil, map[string]int64{"gpu": -1}, "not -1"},
		{"too many", nil, map[string]int64{"gpu": MaxUnits + 1}, "resource gpu"},
		{"resource's name", nil, map[string]int64{"g=u": 1}, `resource "g=u"`},
	} {
		spec := &Spec{Noop: &Noop{}, Labels: tc.labels, Resources: tc.resources}
		offer := &Offer{Labels: tc.labels, Resources: tc.resources}
		for what, err := range map[string]error{"spec": spec.Validate(), "offer": offer.Validate()} {
			if tc.want == "" {
				if err != nil {
					t.Errorf("%s of a %s: %v", tc.name, what, err)
				}
				continue
			}
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s of a %s: %v, want %q", tc.name, what, err, tc.want)
			}
		}
	}
	if err := (&Offer{CPUs: -1}).Validate(); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

func TestOfferFits(t *testing.T) {
	t.Parallel()
	offer := &Offer{Labels: map[string]string{"zone": "a"}, CPUs: 2000, Memory: 1 << 30, Resources: map[string]int64{"gpu": 2}}
	for _, tc := range []struct {
		name string
		spec Spec
		want bool
	}{
		{"nothing", Spec{}, true},
		{"all of it", Spec{Labels: map[string]string{"zone": "a"}, Limits: Limits{CPUs: 2000, Memory: 1 << 30}, Resources: map[string]int64{"gpu": 2}}, true},
		{"another value", Spec{Labels: map[string]string{"zone": "b"}}, false},
		{"a label that is empty and missing", Spec{Labels: map[string]string{"rack": ""}}, false},
		{"cpus", Spec{Limits: Limits{CPUs: 2001}}, false},
		{"memory", Spec{Limits: Limits{Memory: 1<<30 + 1}}, false},
		{"gpus", Spec{Resources: map[string]int64{"gpu": 3}}, false},
		{"an unknown resource", Spec{Resources: map[string]int64{"fpga": 1}}, false},
	} {
		if got := offer.Fits(&tc.spec); got != tc.want {
			t.Errorf("%s: %t", tc.name, got)
		}
	}
	if uncounted := (&Offer{}); !uncounted.Fits(&Spec{Limits: Limits{CPUs: 1 << 30, Memory: 1 << 62}}) {
		t.Error("what is not counted runs out")
	}
}

// fitsBeside tells whether an offer is enough for one more, by adding all up.
func fitsBeside(offer *Offer, in []*Spec, s *Spec) bool {
	cpus, memory, resources := s.Limits.CPUs, s.Limits.Memory, map[string]int64{}
	for name, n := range s.Resources {
		resources[name] += n
	}
	for _, one := range in {
		cpus += one.Limits.CPUs
		memory += one.Limits.Memory
		for name, n := range one.Resources {
			resources[name] += n
		}
	}
	fits := (offer.CPUs == 0 || cpus <= offer.CPUs) && (offer.Memory == 0 || memory <= offer.Memory)
	for name := range s.Resources {
		fits = fits && resources[name] <= offer.Resources[name]
	}
	return fits
}

// Whatever comes and goes, there is room exactly as long as the sum of all that is
// in is no more than the offer, and in the end all of it is free.
func TestRoom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		few := rapid.Int64Range(0, 4)
		offer := &Offer{CPUs: few.Draw(t, "cpus"), Memory: few.Draw(t, "memory"), Resources: map[string]int64{"a": few.Draw(t, "a"), "b": few.Draw(t, "b")}}
		room := Room{Offer: offer}
		var in []*Spec
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			if len(in) > 0 && rapid.Bool().Draw(t, "leave") {
				at := rapid.IntRange(0, len(in)-1).Draw(t, "who")
				room.Give(in[at])
				in = append(in[:at], in[at+1:]...)
				continue
			}
			s := &Spec{Limits: Limits{CPUs: few.Draw(t, "asks cpus"), Memory: few.Draw(t, "asks memory")}}
			if n := few.Draw(t, "asks"); n > 0 {
				s.Resources = map[string]int64{rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "of"): n}
			}
			want := fitsBeside(offer, in, s)
			if got := room.Has(s); got != want {
				t.Fatalf("room for %+v beside %d others in %+v: %t", s, len(in), offer, got)
			} else if got {
				room.Take(s)
				in = append(in, s)
			}
		}
		for _, s := range in {
			room.Give(s)
		}
		if used := room.Used(); used.CPUs != 0 || used.Memory != 0 || len(used.Resources) != 0 {
			t.Fatalf("%+v is in use by nobody", used)
		}
	})
}
