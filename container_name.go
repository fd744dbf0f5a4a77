package navvy

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// MaxContainerName is how long the name of a Kubernetes Job may be, so that its pods can be
// named after it and its name can be the value of a label (63), less what Kubernetes puts
// behind it.
const MaxContainerName = 57

// uuidLength is that of a UUID in text.
const uuidLength = 36

// JobName names the Kubernetes Job of an attempt at a task: NAME-UUID, of what the container
// is called and a UUID, version 8 (RFC 9562), that is the same for every attempt at the task
// until one of them has failed. round is how often the task was retried by hand, and failed
// how many of its attempts have failed in this round. So whoever is given the task after a
// restart, or after a lease that was lost, finds the Job that runs; and whoever has its
// result knows what the Job was called.
func (c *Container) JobName(id TaskID, round, failed int) string {
	return c.NamePrefix() + "-" + NameUUID(fmt.Sprintf("navvy.container.1 %s %d %d %d", id.Job, id.Index, round, failed))
}

// NameUUID is a UUID, version 8 (RFC 9562), that is the same for the same text.
func NameUUID(text string) string {
	sum := sha256.Sum256([]byte(text))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return UUID([16]byte(sum[:16]))
}

// NamePrefix is Name as Kubernetes can have it before a UUID: a letter first, then lower-case
// letters, digits and dashes. "navvy" without a Name.
func (c *Container) NamePrefix() string {
	const most = MaxContainerName - 1 - uuidLength
	name := "navvy"
	if c.Name != "" {
		name = c.Name
	}
	name = nameLabel(strings.ToLower(name), most)
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		name = nameLabel("j"+name, most)
	}
	return strings.ReplaceAll(name, ".", "-")
}

// nameLabel is a text as the value of a label of at most n bytes: what cannot be in one
// becomes a dash.
func nameLabel(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.':
			return r
		}
		return '-'
	}, text)
	return strings.Trim(text[:min(len(text), n)], "-.")
}
