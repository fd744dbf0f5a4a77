package chart_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// kedaModule is where KEDA's module is, at the version of test/kube/keda: its manifests are in it.
var kedaModule = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "-C", filepath.Join(root, "test/kube/keda"), "mod", "download", "-json", "github.com/kedacore/keda/v2")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := output(cmd)
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	var module struct{ Dir string }
	err = json.Unmarshal([]byte(out), &module)
	return module.Dir, err
})

// ofKEDA is the path of a file of KEDA's module.
func ofKEDA(t *testing.T, name string) string {
	t.Helper()
	dir, err := kedaModule()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// definitions makes the API server know KEDA's kinds, as KEDA defines them.
func definitions(t *testing.T, c *kubetest.Cluster) {
	t.Helper()
	for _, kind := range []string{"scaledobjects", "triggerauthentications"} {
		run(t, c.Admin().Kubectl(t, "apply", "--server-side", "--filename="+ofKEDA(t, "config/crd/bases/keda.sh_"+kind+".yaml")))
		run(t, c.Admin().Kubectl(t, "wait", "--for=condition=Established", "--timeout="+kubetest.Patience.String(), "crd/"+kind+".keda.sh"))
	}
}
