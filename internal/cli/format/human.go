// Package format turns values into what the command line prints: answers as JSON
// and CSV, the job log, tables, the progress line, and numbers for people. It
// writes to writers that it is given and reads no environment.
package format

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration writes a time span with two or three digits of interest: 3.2ms,
// 350ms, 12.3s, 3m07s, 2h05m, 4d03h. A negative one is written as 0s.
func Duration(d time.Duration) string {
	tenths, seconds, minutes := d.Round(100*time.Millisecond), d.Round(time.Second), d.Round(time.Minute)
	switch {
	case d <= 0:
		return "0s"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", d.Seconds()*1e3)
	case d.Round(time.Millisecond) < time.Second:
		return fmt.Sprintf("%dms", d.Round(time.Millisecond).Milliseconds())
	case tenths < time.Minute:
		return fmt.Sprintf("%.1fs", tenths.Seconds())
	case seconds < time.Hour:
		return fmt.Sprintf("%dm%02ds", seconds/time.Minute, seconds%time.Minute/time.Second)
	case minutes < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", minutes/time.Hour, minutes%time.Hour/time.Minute)
	default:
		hours := int64(d.Round(time.Hour) / time.Hour)
		return fmt.Sprintf("%dd%02dh", hours/24, hours%24)
	}
}

// Count writes a whole number with a comma between thousands.
func Count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return sign + b.String()
}

// Rate writes how often something happens, by the second, the minute or the
// hour, whichever makes it a number of at least one.
func Rate(perSecond float64) string {
	switch {
	case !(perSecond > 0): // also if it is not a number
		return "0/s"
	case perSecond >= 99.95:
		return Count(int64(perSecond+0.5)) + "/s"
	case perSecond >= 0.95:
		return fmt.Sprintf("%.1f/s", perSecond)
	case perSecond*60 >= 0.95:
		return fmt.Sprintf("%.1f/min", perSecond*60)
	default:
		return fmt.Sprintf("%.1f/h", perSecond*3600)
	}
}
