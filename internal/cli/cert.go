package cli

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/server/auth"
)

func newCert(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "cert", Short: "certificates: who may use a server, and as what",
		Long: `A certificate says who somebody is and what they may do: a user submits jobs and
sees its own, an admin may do everything to all jobs, a viewer sees all and changes
nothing, a worker runs tasks. Private keys never leave the machine where they are made.

On the server's machine these verbs speak with the server of --data, $NAVVY_DATA or
the default directory over its socket; elsewhere with --server, as an administrator.`,
		Example: "  navvy cert issue --name alice --role user --out alice\n  navvy cert ls\n  navvy cert revoke alice",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCertIssue(a), newCertLs(a), newCertShow(a), newCertRenew(a), newCertRevoke(a))
	return cmd
}

// issueFlags are the flags of cert issue.
type issueFlags struct{ name, role, out, ttl, keyType string }

func newCertIssue(a *app) *cobra.Command {
	f := &issueFlags{}
	cmd := &cobra.Command{
		Use: "issue --name NAME [flags]", Short: "make a key and a certificate for somebody",
		Long: `issue makes a key here, lets the server sign a certificate for it, and writes
NAME.crt, NAME.key and ca.crt, which is all that NAME needs, readable by you alone.`,
		Example: `  navvy cert issue --name alice --out alice
  navvy cert issue --name ci --role viewer --ttl 30d
  kubectl exec navvy-server-0 -- navvy cert issue --name bob --out - | tar x`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.issueCert(cmd.Context(), f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.name, "name", "", "whom it is for")
	fs.StringVar(&f.role, "role", string(auth.RoleUser), "what they may do: user, admin, viewer or worker")
	fs.StringVar(&f.out, "out", ".", "the `DIR` to write to, made if need be; - for a tar archive of the files on standard output")
	fs.StringVar(&f.ttl, "ttl", "", "how long it is good: 30d, 12h (default 365d, for a worker 90d); not beyond the end of the authority's own")
	fs.StringVar(&f.keyType, "key-type", string(auth.Ed25519), "the type of the key: ed25519 or p256")
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"user", "admin", "viewer", "worker"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) issueCert(ctx context.Context, f *issueFlags) error {
	if f.name == "" {
		return usagef("cert issue: --name is missing")
	}
	role, roleErr := auth.ParseRole(f.role)
	keyType, typeErr := auth.ParseKeyType(f.keyType)
	lifetime, ttlErr := durationFlag("ttl", f.ttl)
	if err := cmp.Or(auth.ValidateName(f.name), roleErr, typeErr, ttlErr); err != nil {
		return &usageError{err}
	}
	crt, key := filepath.Join(f.out, f.name+".crt"), filepath.Join(f.out, f.name+".key")
	for _, file := range []string{crt, key} {
		if _, err := os.Lstat(file); f.out != "-" && !errors.Is(err, fs.ErrNotExist) {
			return withHint(fmt.Errorf("%s is there already: %w", file, navvy.ErrConflict), "give another directory with --out, or navvy cert renew")
		}
	}
	private, err := auth.NewKey(keyType)
	if err != nil {
		return err
	}
	text, err := auth.KeyPEM(private)
	if err != nil {
		return err
	}
	return a.withServer(ctx, func(c *client.Client, _ *target) error {
		issued, err := c.Issue(ctx, private, f.name, role, lifetime)
		if err != nil {
			return err
		}
		if f.out == "-" {
			return a.archiveCert(f.name, text, issued.Certificate, issued.CA)
		}
		if err := os.MkdirAll(f.out, 0o700); err != nil {
			return fmt.Errorf("cert issue: %w", err)
		}
		if err := errors.Join(auth.WriteFile(key, text), auth.WriteFile(crt, issued.Certificate), auth.WriteFile(filepath.Join(f.out, caFile), issued.CA)); err != nil {
			return err
		}
		a.say("made %s for %s, role %s, with its key and %s beside it", crt, f.name, role, caFile)
		return nil
	})
}

// archiveCert writes what somebody needs as an archive, for who made it in another place
// than where it is to be.
func (a *app) archiveCert(name string, key, cert, ca []byte) error {
	w := tar.NewWriter(a.out)
	for _, file := range []struct {
		name string
		text []byte
	}{{name + ".key", key}, {name + ".crt", cert}, {caFile, ca}} {
		const mode = 0o600
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file.name, Mode: mode, Size: int64(len(file.text)), ModTime: time.Now()})
		if err == nil {
			_, err = w.Write(file.text)
		}
		if err != nil {
			return fmt.Errorf("cert issue: %w", err)
		}
	}
	return w.Close()
}

// certObject is a certificate as -o json shows it.
type certObject struct {
	Name    string     `json:"name,omitempty"`
	Role    string     `json:"role,omitempty"`
	Serial  string     `json:"serial"`
	State   string     `json:"state"` // good, expired or revoked
	Issued  *time.Time `json:"issued,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
	Hosts   []string   `json:"hosts,omitempty"`
	By      string     `json:"by,omitempty"`
	Via     string     `json:"via,omitempty"`
	Renews  string     `json:"renews,omitempty"`
	Revoked *time.Time `json:"revoked,omitempty"`
	RevBy   string     `json:"revoked_by,omitempty"`
	Why     string     `json:"why,omitempty"`
}

func newCertObject(c *client.Certificate) certObject {
	o := certObject{
		Name: c.Name, Role: c.Role, Serial: c.Serial, State: "good", Issued: orNil(c.Issued), Expires: orNil(c.Expires),
		By: c.By, Via: c.Via, Renews: c.Renews, Revoked: orNil(c.Revoked), RevBy: c.RevokedBy, Why: c.Why,
	}
	switch {
	case !c.Revoked.IsZero():
		o.State = "revoked"
	case !c.Expires.IsZero() && time.Now().After(c.Expires):
		o.State = "expired"
	}
	return o
}

// fileObject is a certificate that is read from a file.
func fileObject(cert *x509.Certificate) certObject {
	c := client.Certificate{
		Name: cert.Subject.CommonName, Role: strings.Join(cert.Subject.OrganizationalUnit, ","),
		Serial: auth.Serial(cert.SerialNumber), Issued: cert.NotBefore, Expires: cert.NotAfter,
	}
	o := newCertObject(&c)
	o.Hosts = slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		o.Hosts = append(o.Hosts, ip.String())
	}
	if cert.IsCA {
		o.Role = "authority"
	}
	return o
}

var certHeader = []string{"NAME", "ROLE", "STATE", "EXPIRES", "SERIAL"}

func (o *certObject) row() []string {
	expires := ""
	if o.Expires != nil {
		expires = moment(*o.Expires)
	}
	return []string{o.Name, o.Role, o.State, expires, o.Serial}
}

func newCertLs(a *app) *cobra.Command {
	f := &listFlags{}
	cmd := &cobra.Command{
		Use: "ls [flags]", Short: "list the certificates that were issued",
		Example: "  navvy cert ls\n  navvy cert ls -o jsonl | jq -r 'select(.role == \"admin\") | .name'", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.withServer(cmd.Context(), func(c *client.Client, _ *target) error { return a.listCerts(cmd.Context(), c, f, "") })
		},
	}
	f.add(cmd)
	return cmd
}

// listCerts prints the certificates of a name, or all.
func (a *app) listCerts(ctx context.Context, c *client.Client, f *listFlags, name string) error {
	var list []certObject
	for cert, err := range c.Certificates(ctx, name) {
		if err != nil {
			return err
		}
		list = append(list, newCertObject(&cert))
	}
	if len(list) == 0 && name != "" {
		return withHint(fmt.Errorf("no certificate names %s: %w", name, navvy.ErrNotFound), "navvy cert ls lists them; a file is shown by its path")
	}
	slices.SortFunc(list, func(x, y certObject) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Serial, y.Serial))
	})
	return a.printCerts(f, list)
}

func (a *app) printCerts(f *listFlags, list []certObject) error {
	out := f.objects(a.out)
	var rows [][]string
	for i := range list {
		if f.output == "table" {
			rows = append(rows, list[i].row())
		} else if err := out.add(list[i]); err != nil {
			return err
		}
	}
	if f.output != "table" {
		return out.close()
	}
	return format.Table(a.out, certHeader, rows)
}

func newCertShow(a *app) *cobra.Command {
	f := &listFlags{}
	cmd := &cobra.Command{
		Use: "show [flags] FILE|NAME", Short: "what a certificate says: one in a file, or those of a name",
		Example: "  navvy cert show alice.crt\n  navvy cert show alice -o json", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			text, err := os.ReadFile(args[0])
			if isNoFile(err) && !strings.Contains(args[0], "/") {
				return a.withServer(cmd.Context(), func(c *client.Client, _ *target) error { return a.listCerts(cmd.Context(), c, f, args[0]) })
			} else if err != nil {
				return &usageError{err}
			}
			certs, err := auth.ParseCertPEM(text)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			var list []certObject
			for _, cert := range certs {
				list = append(list, fileObject(cert))
			}
			return a.printCerts(f, list)
		},
	}
	f.add(cmd)
	return cmd
}

// isNoFile tells whether the path that could not be read is none of a file: nothing
// is there, or a directory.
func isNoFile(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EISDIR)
}

func newCertRenew(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "renew", Short: "renew the certificate that you use with a server",
		Long: `renew asks the server for another certificate with the same name and role, for the
same key, and puts it in the place of the old one, which stays good until it expires.`,
		Example: "  navvy --server build1 cert renew\n  navvy --context team cert renew", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if t, err := a.target(); err != nil || t == nil {
				return cmp.Or(err, withHint(usagef("cert renew: name the server with which you use the certificate"), "give --server or --context; a server renews its own by itself"))
			}
			return a.withServer(cmd.Context(), func(c *client.Client, t *target) error {
				until, err := renewFile(cmd.Context(), c, t.Cert, t.Key)
				if err == nil {
					a.say("%s is good until %s", t.Cert, moment(until))
				}
				return err
			})
		},
	}
}

// renewFile puts another certificate in the place of one, for the same key.
func renewFile(ctx context.Context, c *client.Client, crt, key string) (until time.Time, err error) {
	private, err := auth.ReadKey(key)
	if err != nil {
		return until, err
	}
	issued, err := c.Renew(ctx, private)
	if err != nil {
		return until, err
	}
	cert, err := issued.Parsed()
	if err != nil {
		return until, err
	}
	return cert.NotAfter, auth.WriteFile(crt, issued.Certificate)
}

// minSerial is how many digits tell a serial number from a name.
const minSerial = 16

func newCertRevoke(a *app) *cobra.Command {
	f := &listFlags{}
	var why string
	cmd := &cobra.Command{
		Use: "revoke [flags] NAME|SERIAL", Short: "refuse certificates from now on, and cut their connections",
		Long: `revoke refuses a certificate for ever, by its serial number, with those that renew
it; or all certificates of a name. Connections that use them are cut at once.`,
		Example: "  navvy cert revoke alice --why 'laptop stolen'\n  navvy cert revoke 5f3c09a1d2e84b7790aa41c6f0b2d813", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			o := client.RevokeOptions{Name: args[0], Why: why}
			if serial, err := auth.ParseSerial(args[0]); err == nil && len(serial) >= minSerial {
				o.Name, o.Serial = "", serial
			}
			return a.withServer(cmd.Context(), func(c *client.Client, _ *target) error {
				list, err := c.Revoke(cmd.Context(), o)
				if err != nil {
					return err
				}
				var objects []certObject
				for i := range list {
					objects = append(objects, newCertObject(&list[i]))
				}
				return a.printCerts(f, objects)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&why, "why", "", "the reason, for those who look later")
	return cmd
}
