package servicebusqueue_test

import (
	"context"

	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/servicebusqueue"
)

func tryOpen(ctx context.Context, url, connection string, o *queue.Options) (*queue.Queue, error) {
	azure := servicebusqueue.Driver(&servicebusqueue.Options{ConnectionString: connection})
	return queue.Open(ctx, url, map[string]driver.Driver{"azservicebus": azure}, o)
}
