package engine_test

import (
	"testing"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/navvy-run/navvy/runner/engine/enginetest"
)

// hands are what tests do to an engine beside its driver.
type hands interface {
	list(t *testing.T, instance string) []string
	runs(t *testing.T, id string) bool
	name(t *testing.T, id string) string
	remove(t *testing.T, id string)
	// foreign makes a container of a name.
	foreign(t *testing.T, name string)
}

// nameOf tells the name of a container that is then removed.
func (w *world) nameOf(t *testing.T, start func() *trial) string {
	t.Helper()
	r := start()
	name := w.name(t, r.id())
	w.remove(t, r.id())
	return name
}

// dockerHands does it by Docker's API.
type dockerHands struct{}

func (dockerHands) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.WithHost("unix://" + enginetest.Docker(t).Socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (h dockerHands) list(t *testing.T, instance string) []string {
	t.Helper()
	r, err := h.client(t).ContainerList(t.Context(), client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", "app.kubernetes.io/instance="+instance),
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i := range r.Items {
		ids = append(ids, r.Items[i].ID)
	}
	return ids
}

func (h dockerHands) inspect(t *testing.T, id string) *api.InspectResponse {
	t.Helper()
	r, err := h.client(t).ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return &r.Container
}

func (h dockerHands) runs(t *testing.T, id string) bool {
	t.Helper()
	return h.inspect(t, id).State.Running
}

func (h dockerHands) name(t *testing.T, id string) string {
	t.Helper()
	return h.inspect(t, id).Name[1:]
}

func (h dockerHands) remove(t *testing.T, id string) {
	t.Helper()
	if _, err := h.client(t).ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
}

func (h dockerHands) foreign(t *testing.T, name string) {
	t.Helper()
	if _, err := h.client(t).ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: name, Image: enginetest.Image}); err != nil {
		t.Fatal(err)
	}
}
