package format

import (
	"strconv"
	"time"

	"github.com/navvy-run/navvy"
)

// Usage is what an attempt used as JSON shows it, behind max_memory and cpu_time.
// What is not known is null.
type Usage struct {
	UserTime      float64  `json:"user_time"`   // seconds
	SystemTime    float64  `json:"system_time"` // seconds
	ReadBytes     *int64   `json:"read_bytes"`
	WrittenBytes  *int64   `json:"written_bytes"`
	ThrottledTime *float64 `json:"throttled_time"` // seconds
	MaxPIDs       *int64   `json:"max_pids"`
	OOMKills      *int64   `json:"oom_kills"`
}

// NewUsage shows a usage.
func NewUsage(u *navvy.Usage) Usage {
	o := Usage{
		UserTime: seconds(u.User), SystemTime: seconds(u.System),
		ReadBytes: known(u, &u.Read), WrittenBytes: known(u, &u.Written), MaxPIDs: known(u, &u.MaxPIDs), OOMKills: known(u, &u.OOMKills),
	}
	if ns := known(u, (*int64)(&u.Throttled)); ns != nil {
		s := seconds(u.Throttled)
		o.ThrottledTime = &s
	}
	return o
}

// known is n, or nil if a zero there says nothing: only where a group counted the
// processes it counted the rest, too.
func known(u *navvy.Usage, n *int64) *int64 {
	if *n == 0 && u.MaxPIDs == 0 {
		return nil
	}
	return n
}

// usageColumns are those of CSV, in the order of usageRow; new ones come at the end.
var usageColumns = []string{"max_memory", "cpu_time", "user_time", "system_time", "read_bytes", "written_bytes", "throttled_time", "max_pids", "oom_kills"}

// usageRow has empty columns for what is not known.
func usageRow(u *navvy.Usage) []string {
	number := func(n *int64) string {
		if known(u, n) == nil {
			return ""
		}
		return strconv.FormatInt(*n, 10)
	}
	memory, throttled := "", ""
	if u.MaxMemory > 0 {
		memory = strconv.FormatInt(u.MaxMemory, 10)
	}
	if known(u, (*int64)(&u.Throttled)) != nil {
		throttled = decimal(u.Throttled)
	}
	return []string{
		memory, decimal(u.CPU()), decimal(u.User), decimal(u.System), number(&u.Read), number(&u.Written), throttled, number(&u.MaxPIDs), number(&u.OOMKills),
	}
}

// seconds is d to the microsecond.
func seconds(d time.Duration) float64 { return d.Round(time.Microsecond).Seconds() }

// decimal is d in seconds with as many digits as it needs, at most six.
func decimal(d time.Duration) string { return strconv.FormatFloat(seconds(d), 'f', -1, 64) }
