package format

import (
	"fmt"
	"strings"
	"time"
)

// Progress is how far a job has come.
type Progress struct {
	Succeeded, Failed, Running int64
	// Total is how many tasks there are; while Open more may come.
	Total     int64
	Open      bool
	PerSecond float64 // how many tasks end, of late
	Elapsed   time.Duration
}

// A bar has at least minBar columns, or is left out, and at most maxBar.
const (
	minBar = 12
	maxBar = 32
)

// Line is the progress in one line of at most width columns, all ASCII. Where
// there is little room the less important goes first; zero or less means 80 columns.
func (p Progress) Line(width int) string {
	return fit(p.parts(), width, float64(p.done())/float64(p.Total))
}

// fit joins parts to a line of at most width columns, with a bar of which share is full
// behind the first part, if that is there.
func fit(parts []part, width int, share float64) string {
	if width <= 0 {
		width = 80
	}
	for length(parts) > width {
		last := -1
		for i, part := range parts {
			if part.text != "" && part.rank > 0 && (last < 0 || part.rank > parts[last].rank) { //nolint:gosec // last is an index of parts, or less than zero
				last = i
			}
		}
		if last < 0 {
			break
		}
		parts[last].text = ""
	}
	if room := min(width-length(parts)-2, maxBar); room >= minBar && parts[0].text != "" {
		parts[0].text += "  " + bar(share, room)
	}
	line := join(parts)
	return line[:min(len(line), width)]
}

// part is a piece of the line: the higher its rank, the sooner it is left out; 0 stays.
type part struct {
	text string
	rank int
}

// done is how many tasks have ended.
func (p Progress) done() int64 { return min(p.Succeeded+p.Failed, p.Total) }

func (p Progress) parts() []part {
	done := p.done()
	parts := []part{{"", 3}, {Count(done) + "/" + Count(p.Total), 0}, {"", 1}, {"", 5}, {Rate(p.PerSecond), 4}, {"", 2}, {clock(p.Elapsed), 6}}
	if p.Open {
		parts[1].text += "+"
	} else if p.Total > 0 {
		parts[0].text = fmt.Sprintf("%3d%%", done*100/p.Total)
	}
	if p.Failed > 0 {
		parts[2].text = Count(p.Failed) + " failed"
	}
	if p.Running > 0 {
		parts[3].text = Count(p.Running) + " running"
	}
	const longest = float64(1<<63-1) / float64(time.Second)
	if left := float64(p.Total-done) / p.PerSecond; !p.Open && left > 0 && left < longest {
		parts[5].text = "ETA " + clock(time.Duration(left*float64(time.Second)))
	}
	return parts
}

// clock is a duration in whole seconds, so that the line does not flicker.
func clock(d time.Duration) string {
	if d = d.Round(time.Second); d < time.Minute {
		return fmt.Sprintf("%ds", max(d, 0)/time.Second)
	}
	return Duration(d)
}

// bar is a bar of width columns, share of which is full.
func bar(share float64, width int) string {
	full := int(share * float64(width-2))
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-2-full) + "]"
}

func join(parts []part) string {
	var texts []string
	for _, part := range parts {
		if part.text != "" {
			texts = append(texts, part.text)
		}
	}
	return strings.Join(texts, "  ")
}

func length(parts []part) int { return len(join(parts)) }
