package cli

import (
	"fmt"
	"net"
)

// notify tells systemd how the service is, if it is one that systemd waits for; see
// sd_notify(3).
func (a *app) notify(state string) error {
	at := a.env("NOTIFY_SOCKET")
	if at == "" {
		return nil
	}
	if at[0] == '@' {
		at = "\x00" + at[1:] // in the abstract name space
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: at, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close()
	}
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}

// What systemd is told.
const (
	notifyReady    = "READY=1"
	notifyStopping = "STOPPING=1"
)
