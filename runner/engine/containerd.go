package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	events "github.com/containerd/containerd/api/services/events/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/navvy-run/navvy"
)

// containerd is that engine, by the interface that it has for a kubelet: a container is in a
// sandbox of its own, whose id and name stand for both. Its events are containerd's own.
type containerd struct {
	conn    *grpc.ClientConn
	runtime cri.RuntimeServiceClient
	images  cri.ImageServiceClient
	events  events.EventsClient
	logDir  string
	group   string
	what    about
	tails   *tails

	ctx     context.Context // until close
	stop    context.CancelFunc
	running sync.WaitGroup

	mu   sync.Mutex
	main map[string]string // id of a sandbox: of its container
	of   map[string]string // id of a container: of its sandbox
}

var _ backend = (*containerd)(nil)

// containerdSocket is where it listens unless told.
const containerdSocket = "/run/containerd/containerd.sock"

// openContainerd reaches containerd.
func openContainerd(ctx context.Context, o *Options) (backend, error) {
	at := o.Address
	if at == "" {
		at = containerdSocket
	}
	if _, err := os.Stat(at); err != nil {
		return nil, fmt.Errorf("containerd: %w: %w", err, navvy.ErrUnavailable)
	}
	conn, err := grpc.NewClient("unix://"+at, grpc.WithTransportCredentials(insecure.NewCredentials())) // a socket of this machine
	if err != nil {
		return nil, fmt.Errorf("containerd: %w: %w", err, navvy.ErrInvalid)
	}
	c := &containerd{
		conn: conn, runtime: cri.NewRuntimeServiceClient(conn), images: cri.NewImageServiceClient(conn), events: events.NewEventsClient(conn),
		logDir: o.Logs, group: o.Group, main: map[string]string{}, of: map[string]string{},
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	err = c.greet(ctx)
	if err == nil {
		c.tails, err = newTails()
	}
	if err != nil {
		c.stop()
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// greet asks what it is, and whether it can give containers a network.
func (c *containerd) greet(ctx context.Context) error {
	version, err := c.runtime.Version(ctx, &cri.VersionRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented:
		return fmt.Errorf("containerd: its plugin cri is not enabled: see disabled_plugins in its configuration: %w", navvy.ErrUnavailable)
	case err != nil:
		return fmt.Errorf("containerd: %w: %w", err, navvy.ErrUnavailable)
	}
	ready, err := c.runtime.Status(ctx, &cri.StatusRequest{})
	if err != nil {
		return fmt.Errorf("containerd: %w: %w", err, navvy.ErrUnavailable)
	}
	for _, condition := range ready.Status.GetConditions() {
		if !condition.Status {
			return fmt.Errorf("containerd: %s: %s %s; a network for containers wants CNI plugins and a file in /etc/cni/net.d: %w",
				condition.Type, condition.Reason, condition.Message, navvy.ErrUnavailable)
		}
	}
	c.what = about{
		name: "containerd " + version.RuntimeVersion, lacks: "a container of containerd has limits of processor and memory",
		enforces: []navvy.Ability{navvy.AbilityCPUs, navvy.AbilityCPUShares, navvy.AbilityMemory},
	}
	// Those that know tell who makes control groups.
	if config, err := c.runtime.RuntimeConfig(ctx, &cri.RuntimeConfigRequest{}); err == nil && c.group == "" &&
		config.GetLinux().GetCgroupDriver() == cri.CgroupDriver_SYSTEMD {
		c.group = "system.slice"
	}
	return nil
}

func (c *containerd) about() about { return c.what }

func (c *containerd) close() error {
	c.stop()
	err := c.tails.close()
	err = errors.Join(err, c.conn.Close())
	c.running.Wait()
	return err
}

// namespace is where kubelets would have a namespace of a cluster.
const namespace = "navvy"

// sandbox is the configuration of a container's.
func (c *containerd) sandbox(of *container) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: of.name, Uid: of.name, Namespace: namespace},
		Labels:   of.labels, LogDirectory: filepath.Join(c.logDir, of.name),
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    c.group,
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: apart(), Seccomp: seccomp()},
		},
	}
}

// apart are namespaces of a container's own.
func apart() *cri.NamespaceOption {
	return &cri.NamespaceOption{Network: cri.NamespaceMode_POD, Pid: cri.NamespaceMode_CONTAINER, Ipc: cri.NamespaceMode_POD}
}

func seccomp() *cri.SecurityProfile {
	return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
}

// logFile is the log of a container, in the directory of its sandbox.
const logFile = "log"

// config is that of a container, which has no privileges, cannot gain any, and sees nothing of
// the machine's files.
func (c *containerd) config(of *container) *cri.ContainerConfig {
	const period = 100_000 // microseconds
	resources := &cri.LinuxContainerResources{
		CpuShares: of.limits.CPUShares, MemoryLimitInBytes: of.limits.Memory, OomScoreAdj: 0,
	}
	if n := of.limits.CPUs; n > 0 {
		resources.CpuPeriod, resources.CpuQuota = period, n*period/1000
	}
	config := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "main"},
		Image:    &cri.ImageSpec{Image: of.image},
		Command:  of.entrypoint, Args: of.args, WorkingDir: of.dir, Labels: of.labels, LogPath: logFile,
		Linux: &cri.LinuxContainerConfig{
			Resources: resources,
			SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: apart(), NoNewPrivs: true, Seccomp: seccomp(),
				MaskedPaths: []string{
					"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
					"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
				},
				ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			},
		},
	}
	for _, pair := range of.env {
		name, value, _ := strings.Cut(pair, "=")
		config.Envs = append(config.Envs, &cri.KeyValue{Key: name, Value: []byte(value)})
	}
	return config
}

// create makes a sandbox and the container in it.
func (c *containerd) create(ctx context.Context, of *container) (string, error) {
	if of.gpus > 0 {
		return "", kinded{errRefused, errors.New("containerd gives no GPUs to containers of navvy: use Docker or Kubernetes")}
	}
	image, err := c.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: of.image}})
	switch {
	case err != nil && strings.Contains(err.Error(), "invalid reference"), err == nil && image.Image == nil:
		return "", kinded{errNoImage, fmt.Errorf("containerd has no image %s", of.image)}
	case err != nil:
		return "", fmt.Errorf("containerd: %w", err)
	}
	sandbox := c.sandbox(of)
	if err := os.MkdirAll(sandbox.LogDirectory, 0o700); err != nil {
		return "", fmt.Errorf("containerd: %w", err)
	}
	box, err := c.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: sandbox})
	switch {
	case err != nil && strings.Contains(err.Error(), "is reserved for"):
		return "", kinded{errExists, err}
	case err != nil:
		return "", fmt.Errorf("containerd: %w", err)
	}
	made, err := c.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: box.PodSandboxId, Config: c.config(of), SandboxConfig: sandbox})
	if err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		return "", errors.Join(createError(err), c.remove(clean, box.PodSandboxId))
	}
	c.know(box.PodSandboxId, made.ContainerId)
	return box.PodSandboxId, nil
}

// createError tells what is wrong with a container from what is wrong with the machine.
func createError(err error) error {
	if code := status.Code(err); code == codes.InvalidArgument || strings.Contains(err.Error(), "no command specified") {
		return kinded{errRefused, err}
	}
	return fmt.Errorf("containerd: %w", err)
}

// know notes which container is in a sandbox.
func (c *containerd) know(sandbox, main string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.main[sandbox], c.of[main] = main, sandbox
}

// container tells which container is in a sandbox. The error wraps errGone if there is none.
func (c *containerd) container(ctx context.Context, sandbox string) (string, error) {
	c.mu.Lock()
	main := c.main[sandbox]
	c.mu.Unlock()
	if main != "" {
		return main, nil
	}
	r, err := c.runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{PodSandboxId: sandbox}})
	switch {
	case err != nil:
		return "", fmt.Errorf("containerd: %w", err)
	case len(r.Containers) == 0:
		return "", errGone
	}
	c.know(sandbox, r.Containers[0].Id)
	return r.Containers[0].Id, nil
}

func (c *containerd) start(ctx context.Context, id string) error {
	main, err := c.container(ctx, id)
	if err != nil {
		return err
	}
	for again := pauses(); ; {
		_, err := c.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: main})
		switch {
		case err == nil:
			return nil
		case strings.Contains(err.Error(), "OCI runtime"):
			return &startError{status.Convert(err).Message()}
		case strings.Contains(err.Error(), "starting state"):
			// One that has died meanwhile wanted that, too.
			if err := again.Wait(ctx); err != nil {
				return err
			}
			continue
		}
		if s, e := c.inspect(ctx, id); e == nil && s.phase != phaseCreated {
			return nil // it has been started
		}
		return fmt.Errorf("containerd: %w", err)
	}
}

// named finds a sandbox by its name. One without a container, or with one that was never
// started, is what is left of a navvy that died in between, and goes.
func (c *containerd) named(ctx context.Context, name string) (*state, error) {
	r, err := c.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{
		LabelSelector: map[string]string{labelManagedBy: managedBy},
	}})
	if err != nil {
		return nil, fmt.Errorf("containerd: %w", err)
	}
	for _, box := range r.Items {
		if box.Metadata.GetName() != name {
			continue
		}
		s, err := c.inspect(ctx, box.Id)
		if errors.Is(err, errGone) || err == nil && s.unbegun {
			err = errors.Join(err, errGone)
			err = errors.Join(err, c.remove(ctx, box.Id))
		}
		return s, err
	}
	return nil, errGone
}

func (c *containerd) inspect(ctx context.Context, id string) (*state, error) {
	main, err := c.container(ctx, id)
	if err != nil {
		return nil, err
	}
	r, err := c.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: main})
	switch {
	case status.Code(err) == codes.NotFound:
		return nil, kinded{errGone, err}
	case err != nil:
		return nil, fmt.Errorf("containerd: %w", err)
	}
	of := r.Status
	undone := false
	if of.State == cri.ContainerState_CONTAINER_EXITED {
		box, err := c.runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id})
		if err != nil && status.Code(err) != codes.NotFound {
			return nil, fmt.Errorf("containerd: %w", err)
		}
		undone = box.GetStatus().GetState() != cri.PodSandboxState_SANDBOX_READY || err != nil
	}
	return &state{
		unbegun: of.Reason == "StartError", undone: undone, id: id, labels: of.Labels, phase: criPhase(of.State), created: time.Unix(0, of.CreatedAt), finished: time.Unix(0, of.FinishedAt),
		code: int(of.ExitCode), oom: of.Reason == "OOMKilled", unknown: of.Reason == "Unknown",
	}, nil
}

func criPhase(s cri.ContainerState) phase {
	switch s {
	case cri.ContainerState_CONTAINER_CREATED:
		return phaseCreated
	case cri.ContainerState_CONTAINER_EXITED:
		return phaseEnded
	case cri.ContainerState_CONTAINER_RUNNING, cri.ContainerState_CONTAINER_UNKNOWN:
	}
	return phaseRunning
}

func (c *containerd) list(ctx context.Context, instance string) ([]state, error) {
	r, err := c.runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		LabelSelector: map[string]string{labelManagedBy: managedBy, labelInstance: instance},
	}})
	if err != nil {
		return nil, fmt.Errorf("containerd: %w", err)
	}
	list := make([]state, 0, len(r.Containers))
	for _, of := range r.Containers {
		c.know(of.PodSandboxId, of.Id)
		list = append(list, state{id: of.PodSandboxId, labels: of.Labels, phase: criPhase(of.State), created: time.Unix(0, of.CreatedAt)})
	}
	return list, nil
}

// stopping is how long containerd waits before it kills by itself, in seconds: that is ours to
// decide.
const stopping = 30 * 24 * 3600

func (c *containerd) ask(ctx context.Context, id string) error { return c.end(ctx, id, stopping) }

func (c *containerd) kill(ctx context.Context, id string) error { return c.end(ctx, id, 0) }

// end stops a container. The call lasts until that has ended, and is left to itself.
func (c *containerd) end(ctx context.Context, id string, after int64) error {
	main, err := c.container(ctx, id)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	c.running.Go(func() {
		_, err := c.runtime.StopContainer(c.ctx, &cri.StopContainerRequest{ContainerId: main, Timeout: after})
		ended <- err
	})
	const soon = 100 * time.Millisecond // by then it has failed, if it fails
	timer := time.NewTimer(soon)
	defer timer.Stop()
	select {
	case err = <-ended:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err != nil && status.Code(err) != codes.NotFound {
		return fmt.Errorf("containerd: %w", err)
	}
	return nil
}

// remove removes a sandbox with its container and its log.
func (c *containerd) remove(ctx context.Context, id string) error {
	r, err := c.runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id})
	if err == nil {
		_, err = c.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
	}
	if err == nil {
		_, err = c.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	}
	if err != nil && status.Code(err) != codes.NotFound {
		return fmt.Errorf("containerd: %w", err)
	}
	c.mu.Lock()
	delete(c.of, c.main[id])
	delete(c.main, id)
	c.mu.Unlock()
	if name := r.GetStatus().GetMetadata().GetName(); name != "" {
		return os.RemoveAll(filepath.Join(c.logDir, name))
	}
	return nil
}

func (c *containerd) pull(ctx context.Context, image string, as account) error {
	request := &cri.PullImageRequest{Image: &cri.ImageSpec{Image: image}}
	if as != (account{}) {
		request.Auth = &cri.AuthConfig{Username: as.Username, Password: as.Password, IdentityToken: as.IdentityToken, RegistryToken: as.RegistryToken}
	}
	_, err := c.images.PullImage(ctx, request)
	switch {
	case err == nil:
		return nil
	case hopeless(err.Error()), status.Code(err) == codes.NotFound, status.Code(err) == codes.InvalidArgument:
		return kinded{errRefused, errors.New(status.Convert(err).Message())}
	}
	return errors.New(status.Convert(err).Message())
}
