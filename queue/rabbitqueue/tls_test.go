package rabbitqueue_test

import (
	"os"
	"testing"

	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/rabbitqueue"
	"github.com/navvy-run/navvy/queue/rabbitqueue/rabbittest"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	c := drivertest.Certify(t)
	addr, _ := drivertest.FreeAddr(t)
	b, err := rabbittest.Start("listeners.ssl.1 = "+addr, "ssl_options.cacertfile = "+c.CA, "ssl_options.certfile = "+c.Server,
		"ssl_options.keyfile = "+c.ServerKey, "ssl_options.verify = verify_peer", "ssl_options.fail_if_no_peer_cert = true")
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	drivertest.RunTLS(t, "amqps://"+addr+"/q", "amqp", map[string]driver.Driver{"amqp": rabbitqueue.Driver, "amqps": rabbitqueue.Driver}, &c)
	drivertest.RunNoTLS(t, "amqps://"+b.Addr+"/q", "amqp", map[string]driver.Driver{"amqps": rabbitqueue.Driver})
}
