package mstc

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// address says where RabbitMQ is, and who calls.
type address struct {
	at             string // HOST:PORT
	tls            *tls.Config
	user, password string
	vhost          string
}

// The variables of the older worker that say where RabbitMQ is.
const (
	envHost = "WORK_QUEUE_HOST"
	envPort = "WORK_QUEUE_PORT"
	envUser = "WORK_QUEUE_USER"
	envPass = "WORK_QUEUE_PASS"
)

// FromEnvironment makes the URL of the broker that the older worker's environment tells of,
// which may have a password in it; empty if it tells of none. The error wraps
// navvy.ErrInvalid and names the variable.
func FromEnvironment(env func(string) string) (string, error) {
	host, port := env(envHost), env(envPort)
	if host == "" {
		return "", nil
	}
	// Kubernetes sets PORT of a service that is called work-queue, as in tcp://10.0.0.1:5672.
	if u, err := url.Parse(port); err == nil && u.Scheme == "tcp" {
		port = u.Port()
	}
	at := host
	if strings.Contains(host, ":") {
		at = "[" + strings.Trim(host, "[]") + "]"
	}
	if port != "" {
		at += ":" + port
	}
	u := &url.URL{Scheme: "amqp", Host: at, Path: "/"}
	if user := env(envUser); user != "" {
		u.User = url.UserPassword(user, env(envPass))
	}
	if _, err := readURL(u.String()); err != nil {
		return "", fmt.Errorf("%s and %s: %w", envHost, envPort, err)
	}
	return u.String(), nil
}

// CheckBroker refuses a URL that is none of a broker's. The error wraps navvy.ErrInvalid,
// and holds no password.
func CheckBroker(broker string) error {
	_, err := readURL(broker)
	return err
}

// readURL reads amqp://USER:PASSWORD@HOST:PORT/ or amqps://…, with the options vhost and
// those of driver.TLS. Without a user it is guest.
func readURL(text string) (*address, error) {
	u, err := url.Parse(text)
	if err != nil { // whose text has the password
		return nil, fmt.Errorf("the URL of the broker cannot be read: want amqp://USER:PASSWORD@HOST:PORT: %w", navvy.ErrInvalid)
	}
	port, known := map[string]string{"amqp": "5672", "amqps": "5671"}[u.Scheme]
	if !known || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("broker %s: want amqp://HOST:PORT or amqps://HOST:PORT, and no queue: the contract has its own: %w", u.Redacted(), navvy.ErrInvalid)
	}
	values, err := driver.Query(u, append([]string{"vhost"}, driver.TLSOptions...)...)
	if err != nil {
		return nil, err
	}
	a := &address{user: "guest", password: "guest", vhost: "/"}
	if a.tls, err = driver.TLS(u, values, u.Scheme == "amqp"); err != nil {
		return nil, err
	}
	if u.Port() != "" {
		port = u.Port()
	}
	a.at = net.JoinHostPort(u.Hostname(), port)
	if u.User != nil {
		a.user = u.User.Username()
		a.password, _ = u.User.Password()
	}
	if values.Has("vhost") {
		a.vhost = values.Get("vhost")
	}
	return a, nil
}
