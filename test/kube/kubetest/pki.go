package kubetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority is the cluster's own, made anew for each.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Where the programs of a cluster listen, in its own network.
const (
	nodeIP = "198.18.0.1" // of a range that is for such things; a node's may not be loopback
	// Node is the name of the real node.
	Node      = "node0"
	apiserver = "127.0.0.1:6443"
	serviceIP = "10.0.0.1"
)

// newAuthority makes all certificates and keys.
func newAuthority(dir string) (*authority, error) {
	front, err := newSigner(dir, "front-ca.crt")
	if err != nil {
		return nil, err
	}
	if err := front.issue(frontUser, ""); err != nil {
		return nil, err
	}
	a, err := newSigner(dir, "ca.crt")
	if err != nil {
		return nil, err
	}
	for _, user := range []struct{ name, group string }{
		{"kube-apiserver", "system:masters"}, {nodeUser, "system:nodes"},
		{"system:kube-controller-manager", ""}, {"system:kube-scheduler", ""}, {"kwok", "system:masters"},
	} {
		if err := a.issue(user.name, user.group); err != nil {
			return nil, err
		}
		if err := a.kubeconfig(user.name, "https://"+apiserver); err != nil {
			return nil, err
		}
	}
	return a, a.signer("accounts.key")
}

const nodeUser = "system:node:" + Node

// frontUser is whom the API server is to servers that it asks on behalf of others, such as
// KEDA's of metrics. That one's authority is trusted with nothing else.
const frontUser = "front-proxy"

// newSigner makes an authority whose certificate is in a file of that name.
func newSigner(dir, name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &authority{dir: dir, key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubetest " + name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return a, a.write(name, "CERTIFICATE", der)
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name, kind string, der []byte) error {
	return os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// signer makes the key that signs the tokens of service accounts.
func (a *authority) signer(name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return a.write(name, "EC PRIVATE KEY", der)
}

// issue makes key and certificate of a user, who may serve on any of the cluster's addresses.
func (a *authority) issue(user, group string) error {
	if err := a.signer(user + ".key"); err != nil {
		return err
	}
	text, err := os.ReadFile(a.path(user + ".key"))
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	cert := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: user},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", Node, "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(nodeIP), net.ParseIP(serviceIP)},
	}
	if group != "" {
		cert.Subject.Organization = []string{group}
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	return a.write(user+".crt", "CERTIFICATE", der)
}

// kubeconfig writes the configuration with which a user calls the API at a URL. It holds the
// key itself: client-go watches files for ever.
func (a *authority) kubeconfig(user, url string) error {
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: test, cluster: {server: %q, certificate-authority: %q}}]\n", url, a.path("ca.crt"))
	var data [2]string
	for i, name := range []string{user + ".crt", user + ".key"} {
		b, err := os.ReadFile(a.path(name))
		if err != nil {
			return err
		}
		data[i] = base64.StdEncoding.EncodeToString(b)
	}
	text += fmt.Sprintf("users: [{name: me, user: {client-certificate-data: %s, client-key-data: %s}}]\n", data[0], data[1])
	text += "contexts: [{name: test, context: {cluster: test, user: me}}]\ncurrent-context: test\n"
	return os.WriteFile(a.path(user+".kubeconfig"), []byte(text), 0o600)
}
