package driver

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"

	"github.com/navvy-run/navvy"
)

// TLSOptions are the options of a URL that TLS reads, for Query.
var TLSOptions = []string{"ca", "cert", "key"}

// TLS is how a broker over TLS is connected to: 1.2 or newer, with the certificate that the
// URL's host must have. Options of the URL name files in PEM: ca the authorities that issue
// the broker's certificate, which takes the place of the system's; cert and key what the
// client shows, read anew for each connection, so that they may be renewed. With plain the
// scheme is not over TLS: nil, and the options are an error. Errors wrap navvy.ErrInvalid.
func TLS(u *url.URL, values url.Values, plain bool) (*tls.Config, error) {
	ca, cert, key := values.Get("ca"), values.Get("cert"), values.Get("key")
	switch {
	case plain && (values.Has("ca") || values.Has("cert") || values.Has("key")):
		return nil, fmt.Errorf("queue %s: the options ca, cert and key are for connections over TLS, which %s:// is not: %w", navvy.ShownURL(u), u.Scheme, navvy.ErrInvalid)
	case plain:
		return nil, nil //nolint:nilnil // no TLS
	case (cert == "") != (key == ""):
		return nil, fmt.Errorf("queue %s: of the options cert and key one is missing: %w", navvy.ShownURL(u), navvy.ErrInvalid)
	}
	config := &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("queue %s: option ca: %w: %w", navvy.ShownURL(u), err, navvy.ErrInvalid)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("queue %s: option ca: there is no certificate in %s: %w", navvy.ShownURL(u), ca, navvy.ErrInvalid)
		}
	}
	if cert == "" {
		return config, nil
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		return &pair, err
	}
	if _, err := load(); err != nil {
		return nil, fmt.Errorf("queue %s: options cert and key: %w: %w", navvy.ShownURL(u), err, navvy.ErrInvalid)
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return config, nil
}
