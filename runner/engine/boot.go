package engine

import (
	"os"
	"strings"
)

// bootFile tells since which start this machine runs; see random(4).
const bootFile = "/proc/sys/kernel/random/boot_id"

// bootOf names the start of the machine on which an engine is; empty if that is not known, as
// of one elsewhere.
func bootOf(o *Options) string {
	if o.Kind == KindDocker && o.Host != "" && !strings.HasPrefix(o.Host, "unix://") {
		return ""
	}
	id, err := os.ReadFile(bootFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// lost tells whether it is not known how a container ended: its engine says so, or the machine
// was started again since it was made. What engines tell of the latter is their own: a code of
// 255, or of a signal, or none.
func (d *Driver) lost(s *state) bool {
	made := s.labels[labelBoot]
	return s.phase == phaseEnded && (s.unknown || d.boot != "" && made != "" && made != d.boot)
}
