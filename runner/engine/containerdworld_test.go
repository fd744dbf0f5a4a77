package engine_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/navvy-run/navvy/runner/engine/enginetest"
)

// containerdHands does it by the interface for kubelets.
type containerdHands struct{}

func (containerdHands) client(t *testing.T) cri.RuntimeServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+enginetest.Containerd(t).Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return cri.NewRuntimeServiceClient(conn)
}

func (h containerdHands) list(t *testing.T, instance string) []string {
	t.Helper()
	r, err := h.client(t).ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{
		LabelSelector: map[string]string{"app.kubernetes.io/instance": instance},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, s := range r.Items {
		ids = append(ids, s.Id)
	}
	return ids
}

func (h containerdHands) runs(t *testing.T, id string) bool {
	t.Helper()
	r, err := h.client(t).ListContainers(t.Context(), &cri.ListContainersRequest{Filter: &cri.ContainerFilter{PodSandboxId: id}})
	if err != nil {
		t.Fatal(err)
	}
	return len(r.Containers) == 1 && r.Containers[0].State == cri.ContainerState_CONTAINER_RUNNING
}

func (h containerdHands) name(t *testing.T, id string) string {
	t.Helper()
	r, err := h.client(t).PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		t.Fatal(err)
	}
	return r.Status.Metadata.Name
}

func (h containerdHands) remove(t *testing.T, id string) {
	t.Helper()
	c := h.client(t)
	_, err := c.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: id})
	if err == nil {
		_, err = c.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: id})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// foreign makes a sandbox that is not for a task, with a container in it.
func (h containerdHands) foreign(t *testing.T, name string) {
	t.Helper()
	c := h.client(t)
	config := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "navvy"},
		Labels:   map[string]string{"app.kubernetes.io/managed-by": "navvy"},
		Linux:    &cri.LinuxPodSandboxConfig{CgroupParent: enginetest.Containerd(t).Group},
	}
	box, err := c.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: box.PodSandboxId, SandboxConfig: config, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "main"}, Image: &cri.ImageSpec{Image: enginetest.Image},
	}}); err != nil {
		t.Fatal(err)
	}
}
