package policy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// example is the one of the documentation.
func example(t testing.TB) []byte {
	t.Helper()
	page, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	text, _, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatal("docs/policy.md has no example")
	}
	return []byte(text)
}

func parse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestExample(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, example(t), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var s navvy.Spec
	if err := p.Apply(User, &s); err != nil {
		t.Fatal(err)
	}
	want := navvy.Spec{
		Timeout: 24 * time.Hour, Isolate: true, Network: navvy.NetworkNone,
		Limits: navvy.Limits{
			CPUs: 8000, Memory: 2 << 30, PIDs: 4096, WriteBPS: 200 << 20, Output: 10 << 30,
			Ulimits: []navvy.Ulimit{{Name: "core"}, {Name: "nofile", Soft: 65536, Hard: 65536}},
		},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	if p.Local() != Admin || p.File() != path {
		t.Errorf("local %s, file %s", p.Local(), p.File())
	}
	admin := navvy.Spec{Limits: navvy.Limits{Memory: 64 << 30}}
	if err := p.Apply(Admin, &admin); err != nil || admin.Isolate || admin.Limits.CPUs != 0 {
		t.Errorf("%+v, %v", admin, err)
	}
	if _, err := Load(path + ".not"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// Each limit has a default, which fills what is not set and nothing else, and a
// ceiling, to the very value.
func TestEachLimit(t *testing.T) {
	t.Parallel()
	values := map[string][3]string{ // low, high, in words
		"cpus": {"1.5", "2", "2"}, "cpu-shares": {"512", "513", "513"}, "memory": {"512M", "513M", "513 MiB"}, "pids-limit": {"64", "65", "65"},
		"device-read-bps": {"50M", "51M", "51 MiB/s"}, "device-write-bps": {"50M", "51M", "51 MiB/s"}, "device-read-iops": {"500", "501", "501"},
		"device-write-iops": {"500", "501", "501"}, "output-limit": {"1G", "1025M", "1.0 GiB"}, "timeout": {"1h", "3601", "1h0m1s"}, "grace": {"1", "2s", "2s"},
	}
	for i := range fields {
		f := &fields[i]
		v, ok := values[f.name]
		if !ok {
			t.Errorf("%s is not tested", f.name)
			continue
		}
		low, _ := f.parse(v[0])
		high, _ := f.parse(v[1])
		filled := parse(t, "roles: {user: {defaults: {"+f.name+": "+v[0]+"}}}")
		for asked, want := range map[int64]int64{0: low, high: high} {
			var s navvy.Spec
			*f.of(&s) = asked
			if err := filled.Apply(User, &s); err != nil || *f.of(&s) != want {
				t.Errorf("default of %s: %d became %d, %v, want %d", f.name, asked, *f.of(&s), err, want)
			}
		}
		bounded := parse(t, "roles: {user: {ceilings: {"+f.name+": "+v[0]+"}}}")
		for asked, want := range map[int64]int64{0: low, 1: 1, low: low} {
			var s navvy.Spec
			*f.of(&s) = asked
			if err := bounded.Apply(User, &s); err != nil || *f.of(&s) != want {
				t.Errorf("ceiling of %s: %d became %d, %v, want %d", f.name, asked, *f.of(&s), err, want)
			}
		}
		var s navvy.Spec
		*f.of(&s) = high
		err := bounded.Apply(User, &s)
		if !errors.Is(err, navvy.ErrDenied) || !strings.HasPrefix(err.Error(), f.name+" "+v[2]+" is above the ceiling for jobs of role user, which is ") {
			t.Errorf("%s above its ceiling: %v", f.name, err)
		}
		if err := bounded.Apply(Admin, &s); err != nil {
			t.Errorf("%s of another role: %v", f.name, err)
		}
	}
}

// What stands for a default of the host is not raised to a high ceiling.
func TestCeilingAboveWhatIsUsual(t *testing.T) {
	t.Parallel()
	var s navvy.Spec
	if err := parse(t, "roles: {user: {ceilings: {cpu-shares: 2048, grace: 1m}}}").Apply(User, &s); err != nil || s.Limits.CPUShares != 0 || s.Grace != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	const text = `
roles:
  user:
    ceilings: {memory: 1G, ulimit: nofile=64}
    require: {isolate: true, network: none}
  admin:
    ceilings: {memory: 2G, ulimit: [nofile=128, core=unlimited]}
`
	for name, c := range map[string]struct {
		role Role
		spec navvy.Spec
		want string // empty: fine
	}{
		"within":     {User, navvy.Spec{Limits: navvy.Limits{Memory: 1 << 30}}, ""},
		"admin may":  {User, navvy.Spec{Limits: navvy.Limits{Memory: 2 << 30}}, "memory 2.0 GiB is above the ceiling for jobs of role user, which is 1.0 GiB; role admin may ask for it, and who may write policy.yaml can change that"},
		"nobody may": {User, navvy.Spec{Limits: navvy.Limits{Memory: 3 << 30}}, "memory 3.0 GiB is above the ceiling for jobs of role user, which is 1.0 GiB; who may write policy.yaml can change that"},
		"an admin":   {Admin, navvy.Spec{Limits: navvy.Limits{Memory: 3 << 30}}, "memory 3.0 GiB is above the ceiling for jobs of role admin, which is 2.0 GiB; who may write policy.yaml can change that"},
		"ulimit": {
			User, navvy.Spec{Limits: navvy.Limits{Ulimits: []navvy.Ulimit{{Name: "nofile", Soft: 1, Hard: 65}}}},
			"ulimit nofile=1:65 is above the ceiling for jobs of role user, which is nofile=64; role admin may ask for it, and who may write policy.yaml can change that",
		},
		"another ulimit": {User, navvy.Spec{Limits: navvy.Limits{Ulimits: []navvy.Ulimit{{Name: "core", Soft: navvy.Unlimited, Hard: navvy.Unlimited}}}}, ""},
		"unlimited": {
			Admin, navvy.Spec{Limits: navvy.Limits{Ulimits: []navvy.Ulimit{{Name: "nofile", Hard: navvy.Unlimited}}}},
			"ulimit nofile=0:unlimited is above the ceiling for jobs of role admin, which is nofile=128; who may write policy.yaml can change that",
		},
		"network":      {User, navvy.Spec{Network: navvy.NetworkHost}, "network host is not for jobs of role user, only none is; role admin may ask for it, and who may write policy.yaml can change that"},
		"unknown role": {"viewer", navvy.Spec{Limits: navvy.Limits{Memory: 9 << 40}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := parse(t, text).Apply(c.role, &c.spec)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if want := c.want + ": " + navvy.ErrDenied.Error(); !errors.Is(err, navvy.ErrDenied) || err.Error() != want {
				t.Errorf("%v\nwant %s", err, want)
			}
		})
	}
}

// Without a policy, or with an empty one, everything is allowed.
func TestNothing(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]*Policy{"nil": nil, "empty": parse(t, ""), "comments": parse(t, "# nothing\n---\n# at all\n"), "no roles": parse(t, "local: user")} {
		s := navvy.Spec{Limits: navvy.Limits{Memory: 1 << 60}}
		if err := p.Apply(User, &s); err != nil || s.Isolate {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		if want := map[bool]Role{true: User, false: Admin}[name == "no roles"]; p.Local() != want {
			t.Errorf("%s: local is %s", name, p.Local())
		}
	}
}

// Apply leaves the list of a spec alone that others may hold.
func TestApplyDoesNotShare(t *testing.T) {
	t.Parallel()
	list := append(make([]navvy.Ulimit, 0, 8), navvy.Ulimit{Name: "nofile"})
	s := navvy.Spec{Limits: navvy.Limits{Ulimits: list}}
	if err := parse(t, "roles: {user: {defaults: {ulimit: core=0}}}").Apply(User, &s); err != nil || len(s.Limits.Ulimits) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	if list[:2][1].Name != "" {
		t.Error("the list was written to")
	}
}
