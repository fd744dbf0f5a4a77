package format

import (
	"fmt"
	"time"

	"github.com/navvy-run/navvy/quantity"
)

// Transfer is how far the copying of files has come.
type Transfer struct {
	Files, TotalFiles int64
	Bytes, TotalBytes int64   // less than zero in total if that is not known
	PerSecond         float64 // bytes, of late
	Elapsed           time.Duration
}

// Line is the progress in one line of at most width columns, as that of a job.
func (t Transfer) Line(width int) string {
	parts := []part{{"", 3}, {"", 4}, {quantity.Size(t.Bytes), 0}, {quantity.Size(int64(t.PerSecond)) + "/s", 2}, {"", 1}, {clock(t.Elapsed), 5}}
	if t.TotalFiles > 1 {
		parts[1].text = Count(t.Files) + "/" + Count(t.TotalFiles) + " files"
	}
	share := 0.0
	if t.TotalBytes > 0 {
		share = min(float64(t.Bytes)/float64(t.TotalBytes), 1) // a file may grow meanwhile
		parts[0].text = fmt.Sprintf("%3d%%", int(share*100))
		parts[2].text += "/" + quantity.Size(t.TotalBytes)
	}
	const longest = float64(1<<63-1) / float64(time.Second)
	if left := float64(t.TotalBytes-t.Bytes) / t.PerSecond; left > 0 && left < longest {
		parts[4].text = "ETA " + clock(time.Duration(left*float64(time.Second)))
	}
	return fit(parts, width, share)
}
