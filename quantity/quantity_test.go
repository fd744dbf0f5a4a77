package quantity

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// refused is what a table wants where the text is to be refused.
const refused = -1

func TestParseSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "512": 512, "1b": 1, "1B": 1, "1k": 1 << 10, "1K": 1 << 10, "1kb": 1 << 10, "1KiB": 1 << 10, "2kib": 2 << 10,
		"512M": 512 << 20, "512m": 512 << 20, "1.5g": 3 << 29, "1.5 GiB": 3 << 29, "0.5k": 512, "1t": 1 << 40, "1p": 1 << 50,
		"1.0000000001k": 1024, "8191p": 8191 << 50, "9223372036854775807": math.MaxInt64, "007k": 7 << 10,
		"": refused, "k": refused, "b": refused, "ib": refused, "1ib": refused, "-1": refused, "+1": refused, "1e3": refused, "0x10": refused,
		"1kk": refused, "1 k b": refused, "1  k": refused, " 1k": refused, "1k ": refused, "1.": refused, ".5": refused, "1.2.3": refused,
		"8192p": refused, "9223372036854775808": refused, "NaN": refused, "Inf": refused, "1e": refused, "1_000": refused, "/dev/sda:50M": refused,
		"1bb": refused, "1bk": refused, strings.Repeat("9", 100): refused, "1\xff": refused, "١k": refused,
	} {
		check(t, text, want, ParseSize)
	}
}

func check(t *testing.T, text string, want int64, parse func(string) (int64, error)) {
	t.Helper()
	got, err := parse(text)
	if want == refused {
		if !errors.Is(err, navvy.ErrInvalid) || got != 0 {
			t.Errorf("%q: got %d, %v, want ErrInvalid", text, got, err)
		}
		return
	}
	if got != want || err != nil {
		t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 512 << 20: "512 MiB", 1<<30 - 1: "1.0 GiB", 10 << 20: "10 MiB",
		9<<20 + 1: "9.0 MiB", math.MaxInt64: "8.0 EiB", -5: "-5 B",
	} {
		if got := Size(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0B", 1000: "1000B", 512 << 20: "512MiB", 3 << 29: "1536MiB", math.MaxInt64: "9223372036854775807B", 4096 << 50: "4096PiB"} {
		if got := ExactSize(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestParseCPUs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"1": 1000, "1.5": 1500, "0.001": 1, "0.25": 250, "2.000": 2000, "2.0000": 2000, "64": 64000, "0": 0,
		"": refused, "1.5001": refused, "-1": refused, "1,5": refused, "1500m": refused, "1e1": refused, "NaN": refused, "9223372036854775807": refused,
	} {
		check(t, text, want, ParseCPUs)
	}
	for n, want := range map[int64]string{1500: "1.5", 1000: "1", 1: "0.001", 250: "0.25"} {
		if got := CPUs(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestParseCount(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "64": 64, "9223372036854775807": math.MaxInt64,
		"": refused, "-1": refused, "+1": refused, "1.0": refused, "1k": refused, "9223372036854775808": refused, "1 ": refused,
	} {
		check(t, text, want, ParseCount)
	}
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"90": 90 * time.Second, "1.5": 1500 * time.Millisecond, "5m": 5 * time.Minute, "7d": 7 * 24 * time.Hour, "1.5d": 36 * time.Hour,
		"-1": -time.Second, "-1s": -time.Second, "-2d": -48 * time.Hour, "0": 0, "1h30m": 90 * time.Minute,
	} {
		if got, err := ParseDuration(text); got != want || err != nil {
			t.Errorf("%q: got %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "soon", "inf", "NaN", "1e9", "--1", "9223372036854775807", "107000d", "5x", "-"} {
		if got, err := ParseDuration(text); !errors.Is(err, navvy.ErrInvalid) || got != 0 {
			t.Errorf("%q: got %s, %v, want ErrInvalid", text, got, err)
		}
	}
}

func TestParseRate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{
		"10": 10, "2.5/s": 2.5, "120/m": 2, "1/h": 1.0 / 3600, "0": 0, "0/m": 0, "1000000": 1e6,
	} {
		if got, err := ParseRate(text); got != want || err != nil {
			t.Errorf("%q: got %g, %v, want %g", text, got, err, want)
		}
	}
	for _, text := range []string{"", "/s", "1/", "1/d", "1/S", "-1", "-1/s", "1e3", "NaN", "1/s/s", "1 /s", "1/ms", strings.Repeat("9", 400)} {
		if got, err := ParseRate(text); !errors.Is(err, navvy.ErrInvalid) || got != 0 {
			t.Errorf("%q: got %g, %v, want ErrInvalid", text, got, err)
		}
	}
}

func TestParseUlimit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]navvy.Ulimit{
		"nofile=1024": {Name: "nofile", Soft: 1024, Hard: 1024}, "nofile=1024:2048": {Name: "nofile", Soft: 1024, Hard: 2048},
		"core=0:unlimited": {Name: "core", Hard: navvy.Unlimited}, "stack=-1": {Name: "stack", Soft: navvy.Unlimited, Hard: navvy.Unlimited},
	} {
		if got, err := ParseUlimit(text); got != want || err != nil {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "NAME=SOFT", "nofile": "NAME=SOFT", "files=1": "there is no ulimit files", "nofile=": "for its soft limit", "nofile=1:": "for its hard limit",
		"nofile=2:1": "not above", "nofile=-2": "for its soft limit", "nofile=+1": "for its soft limit", "nofile=1:2:3": "for its hard limit",
		"nofile=unlimited:1": "not above", "nofile=18446744073709551616": "for its soft limit",
	} {
		if got, err := ParseUlimit(text); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), want) || got != (navvy.Ulimit{}) {
			t.Errorf("%q: got %+v, %v, want %q", text, got, err, want)
		}
	}
}

// FuzzParse gives any text to all parsers: each refuses it with ErrInvalid, or
// reads what is written again as the same.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"512M", "1.5g", "100KiB", "1.5", "64", "7d", "nofile=1024:unlimited", "-1", "9223372036854775807"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		again := func(what string, err error, same func() bool) {
			if err != nil && (!errors.Is(err, navvy.ErrInvalid) || len(err.Error()) > 500) {
				t.Errorf("%s of %q: %v", what, text, err)
			}
			if err == nil && !same() {
				t.Errorf("%s of %q is written as something else", what, text)
			}
		}
		size, err := ParseSize(text)
		again("size", err, func() bool {
			got, err := ParseSize(ExactSize(size))
			return size >= 0 && got == size && err == nil
		})
		cpus, err := ParseCPUs(text)
		again("cpus", err, func() bool { return cpus >= 0 })
		count, err := ParseCount(text)
		again("count", err, func() bool { return count >= 0 })
		span, err := ParseDuration(text)
		again("duration", err, func() bool {
			got, err := ParseDuration(span.String())
			return got == span && err == nil
		})
		rate, err := ParseRate(text)
		again("rate", err, func() bool { return rate >= 0 && !math.IsInf(rate, 0) })
		ulimit, err := ParseUlimit(text)
		again("ulimit", err, func() bool {
			got, err := ParseUlimit(Ulimit(ulimit))
			return got == ulimit && err == nil
		})
	})
}
