package container

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/share/place"
	"github.com/navvy-run/navvy/share/staging"
)

// Buckets say where the buckets of containers are, and who may use them.
type Buckets struct {
	// Server is the S3 server as pods reach it. Its account is this process's own, for the
	// logs of attempts; no pod is told. Without an endpoint containers get the names of
	// their buckets, and nothing is copied for them.
	Server staging.Server
	// Here is the URL of the same server as this process reaches it. Empty for the same.
	Here string
	// Secret is the name of a Secret in the namespace of the pods, whose keys
	// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are the account of what runs in them, if
	// its buckets are on Server. Empty for none.
	Secret string
	// TempDir keeps logs on their way. Empty for the usual one.
	TempDir string
	// Patience is for how long what fails is tried again before a container starts, and
	// behind it with its log. What it made is tried longer. Defaults to staging.DefaultPatience.
	Patience time.Duration
	// Fill fills the placeholders in the names of a task's buckets. Required for those that
	// have some.
	Fill func(t *driver.Task) (input, output, prefix string, err error)
}

// manyTimes is how much longer what a container has made is worth than its start.
const manyTimes = 12

// The environment of containers that have buckets, in two generations of a contract that is
// older than navvy: with URLs, and with names.
const (
	envInputURL, envOutputURL = "INPUT_BUCKET_URL", "OUTPUT_BUCKET_URL"
	envInput, envOutput       = "INPUT_BUCKET", "OUTPUT_BUCKET"
	envJob, envPrefix         = "MSTC_JOB", "FILE_PREFIX"
	envHost, envPort          = "MINIO_SERVICE_HOST", "MINIO_SERVICE_PORT"
	// What the libraries of S3 look for, and the verb of navvy that copies.
	envEndpoint        = "AWS_ENDPOINT_URL"
	envKey, envSecret  = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
	envBuckets         = "NAVVY_BUCKETS"
	terminationMessage = "/dev/termination-log"
)

// plan is what one attempt has of buckets.
type plan struct {
	navvy.Buckets // filled
	opts          *Buckets
	image         string // navvy's own
	job           string // the name of its Job
	ours          bool   // they are on the server that we know
}

// plan makes the plan of an attempt; nil if it has no buckets.
func (d *Driver) plan(t *driver.Task) (*plan, *driver.Refusal) {
	if t.Spec == nil || t.Spec.Container == nil || !t.Spec.Container.Buckets.Any() {
		return nil, nil
	}
	c := t.Spec.Container
	p := &plan{Buckets: c.Buckets, opts: &d.opts.Buckets, image: d.opts.NavvyImage, job: nameOf(t)}
	if !c.Command.Literal && p.opts.Fill != nil {
		var err error
		if p.Input, p.Output, p.Prefix, err = p.opts.Fill(t); err != nil {
			return nil, wrongInput(err)
		}
	}
	if err := p.Validate(); err != nil {
		return nil, wrongInput(err)
	}
	if err := place.CheckKey(p.logName()); err != nil {
		return nil, wrongInput(fmt.Errorf("the prefix of its objects: %w", err))
	}
	p.ours = p.known()
	if p.Staged() && !p.ours {
		message := "no S3 server is known here, and its files are to be copied: set NAVVY_BUCKETS"
		if p.opts.Server.Endpoint != "" {
			message = fmt.Sprintf("its buckets are not on the S3 server that is known here, which is %s: their files are not copied", p.opts.Server.Endpoint)
		}
		return nil, &driver.Refusal{Reason: navvy.ReasonStart, Message: message}
	}
	return p, nil
}

func wrongInput(err error) *driver.Refusal {
	return &driver.Refusal{Reason: navvy.ReasonInput, Message: navvy.Shorten(err.Error())}
}

// known tells whether the buckets are on the server that we know. Nobody else's is asked for
// anything in the name of our account.
func (p *plan) known() bool {
	if p.opts.Server.Endpoint == "" {
		return false
	}
	for _, bucket := range []string{p.Input, p.Target()} {
		if !p.URLs() || bucket == "" {
			continue
		}
		server, _, _ := navvy.SplitBucket(bucket)
		name, port := staging.Server{Endpoint: server}.Host()
		if n, q := p.opts.Server.Host(); n != name || q != port {
			return false
		}
	}
	return true
}

// bare is the name of a bucket that may be a URL.
func bare(bucket string) string {
	if _, name, err := navvy.SplitBucket(bucket); err == nil {
		return name
	}
	return bucket
}

// logName is the name of the object for the log of the attempt.
func (p *plan) logName() string {
	if p.Prefix == "" {
		return p.job + ".log"
	}
	return p.Prefix + "-" + p.job + ".log"
}

// told is what the container is told of its buckets: NAME=VALUE each.
func (p *plan) told() (list []string) {
	add := func(name, value string) {
		if value != "" {
			list = append(list, name+"="+value)
		}
	}
	if p.URLs() {
		add(envInputURL, p.Input)
		add(envOutputURL, p.Target())
		add(envPrefix, p.Prefix)
	} else {
		add(envJob, "true")
		add(envInput, p.Input)
		add(envOutput, p.Target())
		list = append(list, envPrefix+"="+p.Prefix)
	}
	host, port := p.opts.Server.Host()
	add(envHost, host)
	add(envPort, port)
	add(envEndpoint, p.opts.Server.Endpoint)
	return list
}

// environ adds what the container is told, and the account that it has, to an environment,
// whose own words count.
func (p *plan) environ(env []corev1.EnvVar) []corev1.EnvVar {
	var list []corev1.EnvVar
	for _, pair := range p.told() {
		name, value, _ := strings.Cut(pair, "=")
		list = append(list, corev1.EnvVar{Name: name, Value: strings.ReplaceAll(value, "$", "$$")})
	}
	return under(env, append(list, p.lent()...))
}

// lent is the account that the container itself gets: what is copied for needs none, and for
// another's server nobody gets ours.
func (p *plan) lent() []corev1.EnvVar {
	if !p.ours || p.Staged() {
		return nil
	}
	return p.account()
}

// under adds a list to an environment, whose own words count.
func under(env, list []corev1.EnvVar) []corev1.EnvVar {
	return append(slices.DeleteFunc(list, func(v corev1.EnvVar) bool {
		return slices.ContainsFunc(env, func(own corev1.EnvVar) bool { return own.Name == v.Name })
	}), env...)
}

// account is that of the pod: the cluster reads it, we do not.
func (p *plan) account() []corev1.EnvVar {
	if p.opts.Secret == "" {
		return nil
	}
	var list []corev1.EnvVar
	for _, name := range []string{envKey, envSecret} {
		list = append(list, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: p.opts.Secret}, Key: name,
		}}})
	}
	return list
}

// patience is for how long staging is tried again.
func (b *Buckets) patience() time.Duration { return cmp.Or(b.Patience, staging.DefaultPatience) }
