package relay

import (
	"net"
	"testing"
)

// A connection that leaves when all were closed is not taken out a second time.
func TestLeaveAfterClear(t *testing.T) {
	t.Parallel()
	var r row
	here, there := net.Pipe()
	defer there.Close()
	leave := r.enter(&visitor{Conn: here}, maxConns)
	r.clear()
	leave()
	if n := r.count(); n != 0 {
		t.Errorf("%d are left, want 0", n)
	}
}
