package kubetest

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"os"
	"testing"
)

// stages tell what becomes of pods on kwok's nodes, by their label Fate.
//
//go:embed stages.yaml
var stages []byte

// Fate is the label of pods on kwok's nodes that says what becomes of them: stages.yaml lists
// its values. Without it they succeed at once.
const Fate = "kubetest/fate"

// kwokName is the program, and the annotation and label of its nodes.
const (
	kwokName = "kwok"
	kwokNode = "kubetest/kwok"
)

// kwokPart is the program of fake nodes, which a cluster has if somebody asks for it.
func kwokPart(path, dir string) part {
	c := &Cluster{dir: dir}
	return part{kwokName, []string{
		path, "--kubeconfig=" + c.at("kwok.kubeconfig"), "--config=" + c.at("stages.yaml"),
		"--manage-nodes-with-annotation-selector=" + kwokNode + "=fake", "--node-lease-duration-seconds=8",
		"--cidr=10.250.0.0/16", "--node-ip=" + nodeIP, "--server-address=" + kwokServes,
	}, "http://" + kwokServes + "/healthz"}
}

// kwokServes is where kwok does.
const kwokServes = "127.0.0.1:10247"

// KwokNodes starts kwok, unless it runs, and makes nodes that it speaks for, each with room for
// 2,000 pods. What is to be there has the pod template that it returns, as YAML. The nodes
// stay as long as the cluster.
func (c *Cluster) KwokNodes(t testing.TB, n int) (template string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kwok == 0 {
		if _, err := program(kwokName); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.at("stages.yaml"), stages, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.control.do("start " + kwokName); err != nil {
			t.Fatal(err)
		}
	}
	for ; c.kwok < n; c.kwok++ {
		name := fmt.Sprintf("kwok-%d", c.kwok)
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		err := c.admin.Do(ctx, http.MethodPost, "/api/v1/nodes", `
metadata: {name: `+name+`, annotations: {`+kwokNode+`: fake}, labels: {`+kwokNode+`: fake, kubernetes.io/hostname: `+name+`, kubernetes.io/os: linux}}
spec: {taints: [{key: `+Fake+`, effect: NoSchedule}]}
status:
  capacity: {cpu: "1000", memory: 1Ti, pods: "2000"}
  allocatable: {cpu: "1000", memory: 1Ti, pods: "2000"}
`, nil)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	return `nodeSelector: {` + kwokNode + `: fake}, tolerations: [{key: ` + Fake + `, operator: Exists}]`
}

// Fated is a pod template for kwok's nodes, whose pods have that fate.
func (c *Cluster) Fated(t testing.TB, fate string) []byte {
	t.Helper()
	return fmt.Appendf(nil, "metadata: {labels: {%s: %q}}\nspec: {%s}\n", Fate, fate, c.KwokNodes(t, 1))
}
