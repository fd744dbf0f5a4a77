package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/authconfig"
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/navvy-run/navvy"
)

// docker is an engine that speaks Docker's API.
type docker struct {
	client *client.Client
	what   about
}

var _ backend = (*docker)(nil)

// openTimeout bounds the first calls to an engine.
const openTimeout = 10 * time.Second

// openDocker reaches the engine that the options name.
func openDocker(ctx context.Context, o *Options) (backend, error) {
	opts := []client.Opt{client.WithUserAgent("navvy")}
	if o.Host != "" {
		opts = append(opts, client.WithHost(o.Host))
	}
	if dir := o.Certificates; dir != "" && strings.HasPrefix(o.Host, "tcp://") {
		opts = append(opts, client.WithTLSClientConfig(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")))
	}
	c, err := client.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("docker: %w: %w", err, navvy.ErrInvalid)
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	r, err := c.Info(ctx, client.InfoOptions{})
	switch info := &r.Info; {
	case err != nil:
		err = fmt.Errorf("docker: %w: %w", err, navvy.ErrUnavailable)
	case info.OSType != "linux":
		err = fmt.Errorf("docker: its containers are of %s, not Linux: %w", info.OSType, navvy.ErrUnsupported)
	default:
		d := &docker{client: c, what: about{
			name:  "Docker " + info.ServerVersion,
			lacks: "a container of Docker has limits of processor, memory and processes, as far as its kernel has them, and can be without a network",
		}}
		for ability, has := range map[navvy.Ability]bool{
			navvy.AbilityCPUs: info.CPUCfsQuota, navvy.AbilityCPUShares: info.CPUShares,
			navvy.AbilityMemory: info.MemoryLimit, navvy.AbilityPIDs: info.PidsLimit, navvy.AbilityNetwork: true,
		} {
			if has {
				d.what.enforces = append(d.what.enforces, ability)
			}
		}
		slices.Sort(d.what.enforces)
		return d, nil
	}
	return nil, errors.Join(err, c.Close())
}

func (d *docker) about() about { return d.what }

func (d *docker) close() error { return d.client.Close() }

// create makes a container without privileges: what it runs cannot gain any, and it sees
// nothing of the machine's files.
func (d *docker) create(ctx context.Context, c *container) (string, error) {
	r, err := d.client.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: c.name,
		Config: &api.Config{
			Image: c.image, Entrypoint: c.entrypoint, Cmd: c.args, WorkingDir: c.dir, Env: c.env, Labels: c.labels,
		},
		HostConfig: dockerHost(c),
	})
	switch {
	case err == nil:
		return r.ID, nil
	case errdefs.IsNotFound(err), strings.Contains(err.Error(), badReference):
		return "", kinded{errNoImage, err}
	case errdefs.IsConflict(err):
		return "", kinded{errExists, err}
	case errdefs.IsInvalidArgument(err):
		return "", kinded{errRefused, err}
	}
	return "", fmt.Errorf("docker: %w", err)
}

// badReference is what is said of the name of an image that is none.
const badReference = "invalid reference format"

// dockerHost is what a container gets of its machine. Its log is kept whole, and as it was
// written: Docker's usual one is JSON, which bytes that are no text do not survive.
func dockerHost(c *container) *api.HostConfig {
	h := &api.HostConfig{
		LogConfig:     api.LogConfig{Type: "local", Config: map[string]string{"max-size": "1000t", "max-file": "2", "compress": "false"}},
		SecurityOpt:   []string{"no-new-privileges"},
		RestartPolicy: api.RestartPolicy{Name: api.RestartPolicyDisabled},
		Resources: api.Resources{
			NanoCPUs: c.limits.CPUs * 1_000_000, CPUShares: c.limits.CPUShares,
			Memory: c.limits.Memory, MemorySwap: c.limits.Memory, // it cannot swap
		},
	}
	if n := c.limits.PIDs; n > 0 {
		h.PidsLimit = &n
	}
	if c.gpus > 0 {
		h.DeviceRequests = []api.DeviceRequest{{Count: int(c.gpus), Capabilities: [][]string{{"gpu"}}}}
	}
	if c.noNetwork {
		h.NetworkMode = "none"
	}
	return h
}

// start starts a container.
func (d *docker) start(ctx context.Context, id string) error {
	_, err := d.client.ContainerStart(ctx, id, client.ContainerStartOptions{})
	switch {
	case err == nil:
		return nil
	case errdefs.IsInvalidArgument(err), errdefs.IsNotFound(err), strings.Contains(err.Error(), "could not select device driver"):
		return &startError{err.Error()}
	}
	return fmt.Errorf("docker: %w", err)
}

func (d *docker) named(ctx context.Context, name string) (*state, error) { return d.inspect(ctx, name) }

func (d *docker) inspect(ctx context.Context, id string) (*state, error) {
	r, err := d.client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return nil, dockerGone(err)
	}
	c := &r.Container
	s := &state{id: c.ID, name: strings.TrimPrefix(c.Name, "/"), labels: c.Config.Labels}
	s.created, _ = time.Parse(time.RFC3339Nano, c.Created)
	s.finished, _ = time.Parse(time.RFC3339Nano, c.State.FinishedAt)
	s.code, s.oom = c.State.ExitCode, c.State.OOMKilled
	s.phase = dockerPhase(c.State.Status)
	return s, nil
}

func dockerPhase(s api.ContainerState) phase {
	switch s {
	case api.StateCreated:
		return phaseCreated
	case api.StateExited:
		return phaseEnded
	case api.StateRemoving, api.StateDead:
		return phaseGoing
	case api.StateRunning, api.StatePaused, api.StateRestarting:
	}
	return phaseRunning
}

// dockerGone tells that a container is gone from other errors.
func dockerGone(err error) error {
	if errdefs.IsNotFound(err) {
		return kinded{errGone, err}
	}
	return fmt.Errorf("docker: %w", err)
}

// instanceLabel is what filters want for those of an instance.
func instanceLabel(instance string) string { return labelInstance + "=" + instance }

func (d *docker) list(ctx context.Context, instance string) ([]state, error) {
	r, err := d.client.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", instanceLabel(instance), labelManagedBy+"="+managedBy),
	})
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	list := make([]state, 0, len(r.Items))
	for i := range r.Items {
		c := &r.Items[i]
		list = append(list, state{id: c.ID, labels: c.Labels, phase: dockerPhase(c.State), created: time.Unix(c.Created, 0)})
	}
	return list, nil
}

// watch reads the stream of events, which is there once its answer has begun.
func (d *docker) watch(ctx context.Context, instance string, ready func(), changed func(id string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := d.client.Events(ctx, client.EventsListOptions{Filters: make(client.Filters).
		Add("type", "container").Add("event", "die", "destroy").Add("label", instanceLabel(instance))})
	select {
	case err := <-r.Err:
		return err
	default:
		ready()
	}
	for {
		select {
		case m := <-r.Messages:
			changed(m.Actor.ID)
		case err := <-r.Err:
			return err
		}
	}
}

// logs reads a log. Older engines may end a stream that follows before it has given all: what
// it ended with is compared with the end of the log.
func (d *docker) logs(ctx context.Context, id string, over <-chan struct{}, stdout, stderr io.Writer) (whole bool, err error) {
	select {
	case <-over:
		_, err = d.log(ctx, id, client.ContainerLogsOptions{}, stdout, stderr)
		return err == nil, err
	default:
	}
	last, err := d.log(ctx, id, client.ContainerLogsOptions{Follow: true}, stdout, stderr)
	if err != nil {
		return false, err
	}
	timer := time.NewTimer(longestPause) // the engine may have ended, and not the container
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
	end, err := d.log(ctx, id, client.ContainerLogsOptions{Tail: "1"}, io.Discard, io.Discard)
	return err == nil && end == last, err
}

// log copies a log, or a part of it, and tells what its last frame is.
func (d *docker) log(ctx context.Context, id string, o client.ContainerLogsOptions, stdout, stderr io.Writer) (last uint64, err error) {
	o.ShowStdout, o.ShowStderr, o.Timestamps = true, true, true
	body, err := d.client.ContainerLogs(ctx, id, o)
	if err != nil {
		return 0, dockerGone(err)
	}
	defer func() { _ = body.Close() }()
	return frames(body, stdout, stderr)
}

func (d *docker) ask(ctx context.Context, id string) error {
	r, err := d.client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return dockerGone(err)
	}
	signal := r.Container.Config.StopSignal
	if signal == "" {
		signal = "SIGTERM"
	}
	return d.signal(ctx, id, signal)
}

func (d *docker) kill(ctx context.Context, id string) error { return d.signal(ctx, id, "SIGKILL") }

func (d *docker) signal(ctx context.Context, id, signal string) error {
	_, err := d.client.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: signal})
	if err == nil || errdefs.IsConflict(err) { // it does not run
		return nil
	}
	return dockerGone(err)
}

// remove removes a container with what it has of its own.
func (d *docker) remove(ctx context.Context, id string) error {
	_, err := d.client.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsConflict(err) { // it is gone, or going
		return nil
	}
	return fmt.Errorf("docker: %w", err)
}

// pull fetches an image. That it cannot be had comes as a status, or in the words of the
// registry behind one that says that all is well.
func (d *docker) pull(ctx context.Context, image string, as account) error {
	var o client.ImagePullOptions
	if as != (account{}) {
		text, err := authconfig.Encode(registry.AuthConfig{
			Username: as.Username, Password: as.Password, IdentityToken: as.IdentityToken, RegistryToken: as.RegistryToken, ServerAddress: as.ServerAddress,
		})
		if err != nil {
			return fmt.Errorf("docker: %w", err)
		}
		o.RegistryAuth = text
	}
	r, err := d.client.ImagePull(ctx, image, o)
	if err == nil {
		err = r.Wait(ctx)
	}
	switch {
	case err == nil:
		return nil
	case errdefs.IsNotFound(err), errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err), errdefs.IsInvalidArgument(err), hopeless(err.Error()):
		return kinded{errRefused, err}
	}
	return err
}

// hopeless tells from a registry's words that it will not change its mind.
func hopeless(words string) bool {
	for _, part := range []string{badReference, "manifest unknown", "no matching manifest", "not found"} {
		if strings.Contains(words, part) {
			return true
		}
	}
	return stranger(words)
}
