package process

import "testing"

// TestVigil sees after how many looks, each of them the last of the list again
// and again, nobody is taken to be alive.
func TestVigil(t *testing.T) {
	t.Parallel()
	none, a, b := map[int]uint64{}, map[int]uint64{7: 1}, map[int]uint64{7: 1, 8: 2}
	for name, c := range map[string]struct {
		looks []roster
		want  int // 0: never
	}{
		"a zombie":            {[]roster{{ended: a}}, 2},
		"one that comes late": {[]roster{{ended: a}, {ended: b}}, 3},
		"one is collected":    {[]roster{{ended: b}, {ended: a}}, 2},
		"another of that id":  {[]roster{{ended: a}, {ended: map[int]uint64{7: 9}}}, 4},
		"all unsure":          {[]roster{{ended: a, missed: true}}, lastLook},
		"unsure at first":     {[]roster{{ended: a, missed: true}, {ended: a, missed: true}, {ended: a}}, 3},
		"somebody escapes":    {[]roster{{ended: none, missed: true}}, 0},
		"and others come":     {[]roster{{ended: a, missed: true}, {ended: none, missed: true}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var v vigil
			got := 0
			for i := range 3 * lastLook {
				if v.over(c.looks[min(i, len(c.looks)-1)]) {
					got = i + 1
					break
				}
			}
			if got != c.want {
				t.Errorf("over after %d looks, want %d", got, c.want)
			}
		})
	}
}
