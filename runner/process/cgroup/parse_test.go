package cgroup

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// The files below are what real hosts show: a systemd host with version 2, one
// with version 1, and a container.
const (
	infoV2 = `29 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
30 22 0:27 / /sys/fs/pstore rw - pstore pstore rw
`
	infoV1 = `31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/me\040mory rw - cgroup cgroup rw,memory
36 31 0:32 / /elsewhere rw - cgroup cgroup rw,memory
`
)

func TestParseMounts(t *testing.T) {
	t.Parallel()
	if got := parseMounts([]byte(infoV2)); len(got) != 1 || got[0].version != 2 || got[0].point != "/sys/fs/cgroup" {
		t.Errorf("version 2: %+v", got)
	}
	got := parseMounts([]byte(infoV1))
	if len(got) != 3 {
		t.Fatalf("version 1: %+v", got)
	}
	if c := got[1].controllers; !slices.Equal(c, []string{"cpu", "cpuacct"}) {
		t.Errorf("two controllers in one hierarchy: %q", c)
	}
	if m := got[2]; m.point != "/sys/fs/cgroup/me mory" || m.dir("/docker/abc/x") != m.point+"/x" || m.dir("/other") != m.point {
		t.Errorf("a part of a hierarchy: %+v, %s, %s", m, m.dir("/docker/abc/x"), m.dir("/other"))
	}
}

func TestParsePlaces(t *testing.T) {
	t.Parallel()
	in := parsePlaces([]byte("9:name=systemd:/init\n4:cpu,cpuacct:/a:b\n0::/user.slice/x\nnonsense\n"))
	if in[""] != "/user.slice/x" || in["cpu"] != "/a:b" || in["cpuacct"] != "/a:b" {
		t.Errorf("%q", in)
	}
}

func TestWeight(t *testing.T) {
	t.Parallel()
	for shares, want := range map[int64]int64{navvy.MinCPUShares: 1, navvy.DefaultCPUShares: 100, navvy.MaxCPUShares: 10000} {
		if got := weight(shares); got != want {
			t.Errorf("%d shares are weight %d, want %d", shares, got, want)
		}
	}
	for shares, last := int64(navvy.MinCPUShares), int64(0); shares <= navvy.MaxCPUShares; shares *= 2 {
		if w := weight(shares); w <= last {
			t.Errorf("%d shares are weight %d, not more than half as many", shares, w)
		} else {
			last = w
		}
	}
}

func TestParseUsage(t *testing.T) {
	t.Parallel()
	const stat = "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n7:0 \n253:1 rbytes=1 wbytes=2\n"
	if r, w := parseIOStat([]byte(stat)); r != 4097 || w != 8194 {
		t.Errorf("io.stat: %d read, %d written", r, w)
	}
	const service = "254:0 Read 10\n254:0 Write 20\n254:0 Sync 30\n254:0 Total 30\nTotal 30\n"
	if r, w := parseServiceBytes([]byte(service)); r != 10 || w != 20 {
		t.Errorf("io_service_bytes: %d read, %d written", r, w)
	}
	if d := micros([]byte("usage_usec 7\nuser_usec 5\n"), "user_usec"); d != 5*time.Microsecond {
		t.Errorf("user_usec: %s", d)
	}
}

// FuzzParsers feeds all parsers of control files; none may fail but by its error.
func FuzzParsers(f *testing.F) {
	for _, seed := range []string{infoV2, infoV1, "0::/x\n4:cpu:/y\n", "max\n", "12\n", "1\n2\n0\n", "8:0 rbytes=1\n", "8:0 Read 1\n", "user_usec 1\n", `a\0`, `\777`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, m := range parseMounts(raw) {
			if m.version != 2 && len(m.controllers) == 0 {
				t.Errorf("a mount without a controller: %+v", m)
			}
			if dir := m.dir("/a/b"); !strings.HasPrefix(dir, m.point) && filepath.IsAbs(m.point) && m.point == filepath.Clean(m.point) {
				t.Errorf("%s is outside of %s", dir, m.point)
			}
		}
		for _, path := range parsePlaces(raw) {
			if !strings.HasPrefix(path, "/") {
				t.Errorf("a place %q", path)
			}
		}
		if n, err := parseNumber(raw); err == nil && n < 0 {
			t.Errorf("a number %d", n)
		}
		pids, _ := parsePIDs(raw)
		for _, pid := range pids {
			if pid <= 0 {
				t.Errorf("a process %d", pid)
			}
		}
		r, w := parseIOStat(raw)
		r2, w2 := parseServiceBytes(raw)
		if n, _ := field(raw, "x"); min(r, w, r2, w2, n) < 0 {
			t.Errorf("fewer than no bytes: %d %d %d %d %d", r, w, r2, w2, n)
		}
	})
}

// TestHalfMade has the making of a group fail in each hierarchy: nothing is left
// in the others, and what was in the way is untouched.
func TestHalfMade(t *testing.T) {
	tree := Open(&Options{Name: "navvy-test-half"})
	defer func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, h := range tree.all {
		inTheWay := filepath.Join(h.place, "g")
		if err := unix.Mkdir(inTheWay, 0o700); err != nil {
			t.Fatal(err)
		}
		l := probes
		for _, a := range l.Needs() {
			if !slices.Contains(tree.enforce, a) {
				l = navvy.Limits{}
			}
		}
		g, err := tree.New("g", &l, "/")
		if err == nil { // it takes no part in this hierarchy
			err = g.Remove()
			if err != nil {
				t.Error(err)
			}
		}
		for _, other := range tree.all {
			if dir := filepath.Join(other.place, "g"); exists(dir) != (dir == inTheWay) {
				t.Errorf("%s was in the way: is %s there? %v", inTheWay, dir, exists(dir))
			}
		}
		if err := unix.Rmdir(inTheWay); err != nil {
			t.Error(err)
		}
	}
}
