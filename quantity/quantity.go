// Package quantity reads and writes amounts as people do: sizes, rates, cores,
// numbers, time spans and ulimits. It is strict: what it does not understand
// whole it refuses, and nothing overflows. Errors wrap navvy.ErrInvalid, quote
// the text and say what is wanted; the caller adds where it stood.
package quantity

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
)

// maxText bounds what is looked at, in bytes.
const maxText = 40

// Error says why a text was refused. It wraps navvy.ErrInvalid.
type Error struct {
	Text string // as it was given
	Why  string // what is wrong with it, or what is wanted instead
}

func (e *Error) Error() string {
	return quoted(e.Text) + ": " + e.Why + ": " + navvy.ErrInvalid.Error()
}

// Unwrap is navvy.ErrInvalid.
func (e *Error) Unwrap() error { return navvy.ErrInvalid }

func refuse(text, want string) error { return &Error{text, "want " + want} }

// quoted is text as it is if it is a plain word, in quotes if not, and not too long.
func quoted(text string) string {
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '"' || !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// decimal reads digits with at most one point among them; nil if it is anything else.
func decimal(text string) *big.Rat {
	whole, fraction, point := strings.Cut(text, ".")
	digits := whole + fraction
	if len(text) > maxText || whole == "" || point && fraction == "" || strings.Trim(digits, "0123456789") != "" {
		return nil
	}
	n, _ := new(big.Rat).SetString(text)
	return n
}

// scaled is n times factor, rounded down; false if it is no int64.
func scaled(n *big.Rat, factor int64) (int64, bool) {
	n = new(big.Rat).Mul(n, new(big.Rat).SetInt64(factor))
	v := new(big.Int).Quo(n.Num(), n.Denom())
	return v.Int64(), v.IsInt64()
}

const wantSize = "a size such as 512M, 1.5G or 100KiB"

// ParseSize reads a number of bytes as Docker does, with or without a unit of
// either case: b, k, m, g, t or p, which may be written kb or KiB and is always
// binary. Parts of a byte are dropped.
func ParseSize(text string) (int64, error) {
	number := strings.ToLower(text)
	factor := int64(1)
	switch {
	case strings.HasSuffix(number, "ib"):
		number, factor = number[:len(number)-2], 0 // a unit must come before it
	case strings.HasSuffix(number, "b"):
		number = number[:len(number)-1]
	}
	if last := len(number) - 1; last > 0 {
		if i := strings.IndexByte("kmgtp", number[last]); i >= 0 {
			number, factor = number[:last], 1<<(10*(i+1))
		}
	}
	n := decimal(strings.TrimSuffix(number, " "))
	if n == nil || factor == 0 {
		return 0, refuse(text, wantSize)
	}
	size, ok := scaled(n, factor)
	if !ok {
		return 0, refuse(text, "a size below 8 EiB")
	}
	return size, nil
}

// Size writes a number of bytes in binary units: 512 B, 1.5 KiB, 12 MiB.
func Size(bytes int64) string {
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	value, unit := float64(bytes), 0
	for value >= 1023.95 && unit < 6 {
		value /= 1024
		unit++
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f %ciB", value, "BKMGTPE"[unit])
	}
	return fmt.Sprintf("%.0f %ciB", value, "BKMGTPE"[unit])
}

// ExactSize writes a number of bytes so that ParseSize reads the same: 512MiB, 1000B.
func ExactSize(bytes int64) string {
	unit := 0
	for bytes != 0 && bytes%1024 == 0 && unit < 5 {
		bytes /= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%dB", bytes)
	}
	return fmt.Sprintf("%d%ciB", bytes, "BKMGTP"[unit])
}

// milli is a thousandth, in which cores are counted.
const milli = 1000

// ParseCPUs reads a number of cores, with at most three decimals, as thousandths of one.
func ParseCPUs(text string) (int64, error) {
	const want = "a number of cores such as 2 or 1.5"
	n := decimal(text)
	if n == nil {
		return 0, refuse(text, want)
	}
	if v := new(big.Rat).Mul(n, new(big.Rat).SetInt64(milli)); !v.IsInt() {
		return 0, refuse(text, want+", with three decimals at most")
	}
	cores, ok := scaled(n, milli)
	if !ok {
		return 0, refuse(text, want)
	}
	return cores, nil
}

// CPUs writes thousandths of a core as a number of cores.
func CPUs(thousandths int64) string {
	return strconv.FormatFloat(float64(thousandths)/milli, 'f', -1, 64)
}

// ParseCount reads a whole number without a sign.
func ParseCount(text string) (int64, error) {
	const want = "a whole number"
	if len(text) > maxText || text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, refuse(text, want)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, refuse(text, want+" below 2^63")
	}
	return n, nil
}

// ParseDuration reads a time span: time.ParseDuration's forms, days as 7d, and a
// bare number as seconds. It may be negative.
func ParseDuration(text string) (time.Duration, error) {
	const want = "a time span such as 1.5s, 10m, 2h or 7d"
	number, unit := text, time.Second
	if days, ok := strings.CutSuffix(text, "d"); ok {
		number, unit = days, 24*time.Hour
	}
	n := decimal(strings.TrimPrefix(number, "-"))
	if n == nil {
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, refuse(text, want)
		}
		return d, nil
	}
	span, ok := scaled(n, int64(unit))
	if !ok {
		return 0, refuse(text, want+", and less than 292 years")
	}
	if strings.HasPrefix(number, "-") {
		span = -span
	}
	return time.Duration(span), nil
}

// ParseRate reads how often something may happen: a number a second, as 2.5 or 2.5/s,
// a minute as 100/m, or an hour as 10/h. It gives the number a second.
func ParseRate(text string) (float64, error) {
	const want = "a rate such as 10 or 10/s, 100/m or 5/h"
	number, unit, has := strings.Cut(text, "/")
	seconds := map[string]int64{"s": 1, "m": 60, "h": 3600}[unit]
	if !has {
		seconds = 1
	}
	n := decimal(number)
	if n == nil || seconds == 0 {
		return 0, refuse(text, want)
	}
	rate, _ := n.Quo(n, new(big.Rat).SetInt64(seconds)).Float64()
	return rate, nil
}
