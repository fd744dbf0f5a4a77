package redisqueue_test

import (
	"testing"

	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/redisqueue"
	"github.com/navvy-run/navvy/queue/redisqueue/redistest"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	c := drivertest.Certify(t)
	addr, port := drivertest.FreeAddr(t)
	s := redistest.Start(t, "--tls-port", port, "--tls-cert-file", c.Server, "--tls-key-file", c.ServerKey, "--tls-ca-cert-file", c.CA, "--tls-auth-clients", "yes")
	drivertest.RunTLS(t, "rediss://"+addr+"/q", "redis", map[string]driver.Driver{"redis": redisqueue.Driver, "rediss": redisqueue.Driver}, &c)
	drivertest.RunNoTLS(t, "rediss://"+s.Addr+"/q", "redis", map[string]driver.Driver{"rediss": redisqueue.Driver})
}
