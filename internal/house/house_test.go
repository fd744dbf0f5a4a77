// Package house tests what holds for the whole project and belongs to no part
// of it: which packages may come along with which, and that the documentation
// names each dependency.
package house

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const module = "github.com/navvy-run/navvy"

// goTool runs the go command in the module's root and returns what it prints.
func goTool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = "../.."
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// deps lists the packages outside the standard library that pkg is built from, itself included.
func deps(t *testing.T, pkg string) []string {
	t.Helper()
	list := strings.Fields(goTool(t, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", pkg))
	if len(list) == 0 {
		t.Fatalf("%s is built from nothing", pkg)
	}
	return list
}

// within tells whether path is one of the prefixes or lies below one.
func within(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if path == p || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}

// Packages that people import alone bring nothing along that they don't need:
// no storage engine, no broker's library, and no gRPC but where that is what they are for.
func TestLightPackages(t *testing.T) {
	t.Parallel()
	for pkg, allowed := range map[string][]string{
		"":               {},
		"placeholder":    {},
		"output":         {},
		"quantity":       {},
		"runner/driver":  {},
		"share/place":    {},
		"runner":         {module + "/output", module + "/placeholder", module + "/quantity", module + "/runner/driver", "golang.org/x/sync", "golang.org/x/sys"},
		"runner/process": {module + "/output", module + "/placeholder", module + "/runner/driver", module + "/runner/process", "golang.org/x/sys"},

		// What authors of services link into their own programs.
		"sdk": {module + "/api/navvy/service", "google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto/googleapis/rpc",
			"golang.org/x/net", "golang.org/x/sys", "golang.org/x/text"},

		"runner/process/boot":    {"golang.org/x/sys"},
		"runner/process/isolate": {module + "/runner/driver", module + "/runner/process/boot", "golang.org/x/sys"},
	} {
		t.Run("navvy/"+pkg, func(t *testing.T) {
			t.Parallel()
			self := strings.TrimSuffix(module+"/"+pkg, "/")
			for _, dep := range deps(t, self) {
				if dep != module && dep != self && !within(dep, allowed) {
					t.Errorf("%s pulls in %s", self, dep)
				}
			}
		})
	}
}

// Whoever runs processes, keeps jobs or writes a service gets no cloud's libraries with it.
func TestCloudsStayInShares(t *testing.T) {
	t.Parallel()
	clouds := []string{"gocloud.dev", "github.com/aws/aws-sdk-go-v2", "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob", "github.com/Azure/azure-sdk-for-go/sdk/storage/azfile", "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager"}
	for _, pkg := range []string{"sdk", "client", "engine", "manager", "queue", "server", "worker", "worker/answer", "gateway/broker", "runner/process", "runner/function", "runner/service"} {
		for _, dep := range deps(t, module+"/"+pkg) {
			if within(dep, clouds) {
				t.Errorf("%s pulls in %s", pkg, dep)
			}
		}
	}
}

func TestBinaryHoldsNoTestLibraries(t *testing.T) {
	t.Parallel()
	libraries := []string{"github.com/getkin/kin-openapi", "github.com/google/go-cmp", "github.com/rogpeppe/go-internal/testscript", "github.com/santhosh-tekuri/jsonschema/v6", "go.uber.org/goleak", "pgregory.net/rapid"}
	for _, dep := range deps(t, module+"/cmd/navvy") {
		if within(dep, libraries) {
			t.Errorf("the binary holds %s", dep)
		}
	}
}

func TestDependenciesAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]bool)
	for line := range strings.Lines(string(page)) {
		if rest, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ := strings.Cut(rest, "`")
			documented[name] = true
		}
	}
	if len(documented) == 0 {
		t.Fatal("docs/dependencies.md has no table of modules")
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal([]byte(goTool(t, "mod", "edit", "-json")), &mod); err != nil {
		t.Fatal(err)
	}
	required := make(map[string]bool)
	for _, r := range mod.Require {
		required[r.Path] = true
		if !r.Indirect && !documented[r.Path] {
			t.Errorf("go.mod requires %s, and docs/dependencies.md does not say why", r.Path)
		}
	}
	for name := range documented {
		if !required[name] {
			t.Errorf("docs/dependencies.md explains %s, which go.mod does not require", name)
		}
	}
}
