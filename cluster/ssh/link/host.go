package link

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/navvy-run/navvy"
)

// Host is where somebody signs in.
type Host struct {
	User string `json:"user"`
	Name string `json:"name"` // or address
	Port int    `json:"port"`
}

const defaultPort = 22

// ParseHost reads [USER@]HOST[:PORT], of which an address of IPv6 is in brackets. The error
// wraps navvy.ErrInvalid.
func ParseHost(text, user string) (Host, error) {
	h := Host{User: user, Name: text, Port: defaultPort}
	if name, rest, found := strings.Cut(text, "@"); found {
		h.User, h.Name = name, rest
	}
	bad := func(why string) (Host, error) {
		return Host{}, fmt.Errorf("host %.100q: %s: want [USER@]HOST[:PORT]: %w", text, why, navvy.ErrInvalid)
	}
	if at := h.Name; strings.HasSuffix(at, "]") {
		h.Name = strings.Trim(at, "[]")
	} else if strings.Contains(at, ":") {
		name, port, err := net.SplitHostPort(at)
		if err != nil {
			return bad("it is no address")
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return bad("its port is no number from 1 to 65535")
		}
		h.Name, h.Port = name, int(n)
	}
	switch {
	case h.Name == "" || strings.ContainsAny(h.Name, " \t\r\n/@"):
		return bad("it has no name")
	case h.User == "" || strings.ContainsAny(h.User, " \t\r\n"):
		return bad("it is not said who signs in")
	}
	return h, nil
}

// Address is where it listens.
func (h Host) Address() string { return net.JoinHostPort(h.Name, strconv.Itoa(h.Port)) }

func (h Host) String() string { return h.User + "@" + h.Address() }

// Command is what people type to get there.
func (h Host) Command() string {
	if h.Port == defaultPort {
		return "ssh " + h.User + "@" + h.Name
	}
	return fmt.Sprintf("ssh -p %d %s@%s", h.Port, h.User, h.Name)
}
