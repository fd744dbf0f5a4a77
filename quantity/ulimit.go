package quantity

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/navvy-run/navvy"
)

// unlimited is how no bound is written; -1 is read as well.
const unlimited = "unlimited"

// ParseUlimit reads NAME=SOFT[:HARD] as Docker does; each may be unlimited or -1,
// and without HARD it is SOFT.
func ParseUlimit(text string) (navvy.Ulimit, error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return navvy.Ulimit{}, refuse(text, "NAME=SOFT or NAME=SOFT:HARD, as in nofile=1024:2048")
	}
	if !slices.Contains(navvy.UlimitNames, name) {
		return navvy.Ulimit{}, &Error{text, fmt.Sprintf("there is no ulimit %s, only %s", quoted(name), strings.Join(navvy.UlimitNames, ", "))}
	}
	soft, hard, both := strings.Cut(value, ":")
	u := navvy.Ulimit{Name: name}
	if u.Soft, ok = ulimitValue(soft); !ok {
		return navvy.Ulimit{}, refuse(text, "a number or unlimited for its soft limit")
	}
	if u.Hard = u.Soft; !both {
		return u, nil
	}
	if u.Hard, ok = ulimitValue(hard); !ok {
		return navvy.Ulimit{}, refuse(text, "a number or unlimited for its hard limit")
	}
	if u.Soft > u.Hard {
		return navvy.Ulimit{}, refuse(text, "a soft limit that is not above the hard one")
	}
	return u, nil
}

func ulimitValue(text string) (uint64, bool) {
	if text == unlimited || text == "-1" {
		return navvy.Unlimited, true
	}
	if strings.HasPrefix(text, "+") {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

// Ulimit writes a ulimit so that ParseUlimit reads the same.
func Ulimit(u navvy.Ulimit) string {
	text := u.Name + "=" + ulimitText(u.Soft)
	if u.Hard != u.Soft {
		text += ":" + ulimitText(u.Hard)
	}
	return text
}

func ulimitText(n uint64) string {
	if n == navvy.Unlimited {
		return unlimited
	}
	return strconv.FormatUint(n, 10)
}
