package kubetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// EnvKEDA names the directory with KEDA's programs, which make test-keda builds.
const EnvKEDA = "NAVVY_TEST_KEDA"

// kedaOverlay is KEDA as its own manifests install it, but for what is not here: a registry of
// images, and a network that knows names and addresses of Services.
const kedaOverlay = `
resources: [keda/config/minimal]
patches:
- patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: keda-operator, namespace: keda}
    spec:
      template:
        spec:
          hostAliases: [{ip: %[1]s, hostnames: [%[2]s]}]
          containers:
          - name: keda-operator
            image: local.test/keda-operator:1
            imagePullPolicy: Never
            command: [/program]
            env: [{name: KUBERNETES_SERVICE_HOST, value: %[4]s}, {name: KUBERNETES_SERVICE_PORT, value: "6443"}]
- patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: keda-metrics-apiserver, namespace: keda}
    spec:
      replicas: %[5]d
      template:
        spec:
          hostAliases: [{ip: %[3]s, hostnames: [keda-operator.keda.svc.cluster.local]}]
          containers:
          - name: keda-metrics-apiserver
            image: local.test/keda-adapter:1
            imagePullPolicy: Never
            command: [/program]
            env: [{name: KUBERNETES_SERVICE_HOST, value: %[4]s}, {name: KUBERNETES_SERVICE_PORT, value: "6443"}]
`

// kedaModule is where KEDA's module is, at the version of test/kube/keda: its manifests are in it.
var kedaModule = sync.OnceValues(func() (string, error) {
	here, err := output(exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/navvy-run/navvy/test/kube/kubetest"))
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "-C", filepath.Join(strings.TrimSpace(here), "../keda"), "mod", "download", "-json", "github.com/kedacore/keda/v2")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := output(cmd)
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	var module struct{ Dir string }
	err = json.Unmarshal([]byte(out), &module)
	return module.Dir, err
})

// output is what a command prints; the error has what it complains of.
func output(cmd *exec.Cmd) (string, error) {
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, said.String())
	}
	return out.String(), nil
}

// ofKEDA is the path of a file of KEDA's module.
func ofKEDA(t testing.TB, name string) string {
	t.Helper()
	dir, err := kedaModule()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

func (c *Cluster) kubectl(t testing.TB, args ...string) {
	t.Helper()
	if _, err := output(c.Admin().Kubectl(t, args...)); err != nil {
		t.Fatal(err)
	}
}

// KEDAKinds makes the API server know KEDA's kinds, as KEDA defines them. They stay.
func (c *Cluster) KEDAKinds(t testing.TB) {
	t.Helper()
	for _, kind := range []string{"scaledobjects", "triggerauthentications"} {
		c.kubectl(t, "apply", "--server-side", "--filename="+ofKEDA(t, "config/crd/bases/keda.sh_"+kind+".yaml"))
		c.kubectl(t, "wait", "--for=condition=Established", "--timeout="+Patience.String(), "crd/"+kind+".keda.sh")
	}
}

// StartKEDA installs KEDA itself from the programs of a directory; it finds the host that it asks
// at an address. It goes when the test ends, but for its kinds.
func (c *Cluster) StartKEDA(t testing.TB, programs, host, ip string) {
	t.Helper()
	for _, name := range []string{"keda-operator", "keda-adapter"} {
		c.AddProgram(t, "local.test/"+name+":1", filepath.Join(programs, name))
	}
	dir := t.TempDir()
	if err := os.Symlink(ofKEDA(t, "."), filepath.Join(dir, "keda")); err != nil {
		t.Fatal(err)
	}
	apply := func(operator string, adapters int) {
		t.Helper()
		text := fmt.Sprintf(kedaOverlay, ip, host, operator, NodeIP, adapters)
		if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.kubectl(t, "apply", "--server-side", "--force-conflicts", "--kustomize="+dir)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, args := range [][]string{{"get", "pods", "-o", "wide"}, {"get", "events"}, {"logs", "-l", "app=keda-operator", "--tail=100"}, {"logs", "-l", "app=keda-metrics-apiserver", "--tail=30"}} {
				out, err := output(c.Admin().Kubectl(t, append([]string{"--namespace=keda"}, args...)...))
				t.Logf("-- kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		}
		c.kubectl(t, "delete", "--ignore-not-found", "apiservice", "v1beta1.external.metrics.k8s.io")
		c.kubectl(t, "delete", "--ignore-not-found", "--wait=false", "namespace", "keda")
	})
	apply(ip, 0) // where the operator is will be seen
	var operator string
	Until(t, "KEDA's operator runs", func() bool {
		var err error
		operator, err = output(c.Admin().Kubectl(t, "--namespace=keda", "get", "pods", "-l", "app=keda-operator", "-o", "jsonpath={.items[*].status.podIP}"))
		return err == nil && operator != ""
	})
	apply(operator, 1)
	c.kubectl(t, "wait", "--for=condition=Available", "--timeout="+Patience.String(), "apiservice/v1beta1.external.metrics.k8s.io")
}
