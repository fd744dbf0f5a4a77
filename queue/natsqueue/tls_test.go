package natsqueue_test

import (
	"testing"

	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/natsqueue"
	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	c := drivertest.Certify(t)
	s := natstest.Start(t, &natstest.Options{CA: c.CA, Cert: c.Server, Key: c.ServerKey})
	drivertest.RunTLS(t, "tls://"+s.Addr+"/q", "nats", map[string]driver.Driver{"nats": natsqueue.Driver, "tls": natsqueue.Driver}, &c)
	drivertest.RunNoTLS(t, "tls://"+natstest.Start(t, nil).Addr+"/q", "nats", map[string]driver.Driver{"tls": natsqueue.Driver})
}
