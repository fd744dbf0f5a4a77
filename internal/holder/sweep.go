package holder

import (
	"context"
	"time"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/worker"
)

// sweepPatience bounds how long a process that leaves looks after what an earlier one has left
// running elsewhere: a cluster may be away.
const sweepPatience = 10 * time.Second

// sweep ends what an earlier process has left running of jobs that were stopped since, perhaps by
// this one, which runs nothing any more. A server's process leaves that to its next one.
func (h *Holder) sweep(ctx context.Context) {
	if h.cfg.Serving != nil || h.Err() != nil || ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	worker.Sweep(ctx, client.NewWorkers(h.channel), h.running, h.cfg.Logger)
}
