package azure

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

var update = flag.Bool("update", false, "write the golden files")

// all are the templates, read.
func all(t *testing.T) map[string]map[string]any {
	t.Helper()
	entries, err := templates.ReadDir("templates")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]map[string]any{}
	for _, e := range entries {
		text, err := templates.ReadFile("templates/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatalf("%s: %v", e.Name(), err)
		}
		found[strings.TrimSuffix(e.Name(), ".json")] = v
	}
	return found
}

// structure is the JSON Schema of deploymentTemplate.json, 2019-04-01, as far as it says what
// keys there can be and of which type.
var (
	templateKeys  = map[string]string{"$schema": "string", "contentVersion": "string", "parameters": "object", "resources": "array", "outputs": "object"}
	parameterKeys = map[string]string{"type": "string", "minLength": "number", "maxLength": "number", "minValue": "number", "maxValue": "number", "allowedValues": "array"}
	resourceKeys  = map[string]string{"condition": "string", "type": "string", "apiVersion": "string", "name": "string", "location": "string", "tags": "", "sku": "object", "identity": "object", "kind": "string", "properties": "object", "dependsOn": "array"}
	outputKeys    = map[string]string{"type": "string", "value": "string"}
)

// known API versions by type, from Azure's documentation (learn.microsoft.com/azure/templates).
var knownVersions = map[string][]string{
	"Microsoft.ServiceBus/namespaces":                           {"2021-11-01", "2024-01-01"},
	"Microsoft.ServiceBus/namespaces/queues":                    {"2021-11-01", "2024-01-01"},
	"Microsoft.ServiceBus/namespaces/AuthorizationRules":        {"2021-11-01", "2024-01-01"},
	"Microsoft.Storage/storageAccounts":                         {"2023-01-01", "2023-05-01", "2024-01-01"},
	"Microsoft.Storage/storageAccounts/blobServices/containers": {"2023-01-01", "2023-05-01", "2024-01-01"},
	"Microsoft.Storage/storageAccounts/fileServices/shares":     {"2023-01-01", "2023-05-01", "2024-01-01"},
	"Microsoft.Storage/storageAccounts/queueServices/queues":    {"2023-01-01", "2023-05-01", "2024-01-01"},
	"Microsoft.Insights/components":                             {"2015-05-01", "2020-02-02"},
	"Microsoft.OperationalInsights/workspaces":                  {"2021-06-01", "2022-10-01", "2023-09-01"},
	"Microsoft.ContainerInstance/containerGroups":               {"2022-09-01", "2023-05-01"},
	"Microsoft.ContainerService/managedClusters":                {"2024-05-01", "2024-09-01"},
	"Microsoft.Insights/dataCollectionRules":                    {"2022-06-01", "2023-03-11"},

	"Microsoft.ContainerService/managedClusters/providers/dataCollectionRuleAssociations": {"2022-06-01", "2023-03-11"},
}

func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case float64:
		return "number"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "other"
}

func checkKeys(t *testing.T, where string, v any, allowed map[string]string, required ...string) {
	t.Helper()
	m, ok := v.(map[string]any)
	if !ok {
		t.Errorf("%s is no object", where)
		return
	}
	for key, inner := range m {
		want, ok := allowed[key]
		if !ok {
			t.Errorf("%s: there is no %s", where, key)
		} else if want != "" && kindOf(inner) != want {
			t.Errorf("%s: %s is no %s", where, key, want)
		}
	}
	for _, key := range required {
		if m[key] == nil {
			t.Errorf("%s: %s is missing", where, key)
		}
	}
}

func TestTemplateStructure(t *testing.T) {
	t.Parallel()
	for name, template := range all(t) {
		checkKeys(t, name, template, templateKeys, "$schema", "contentVersion", "resources")
		if template["$schema"] != "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#" {
			t.Errorf("%s: its schema is %v", name, template["$schema"])
		}
		if !regexp.MustCompile(`^\d+\.\d+\.\d+\.\d+$`).MatchString(text(template["contentVersion"])) {
			t.Errorf("%s: its version is %v", name, template["contentVersion"])
		}
		parameters, _ := template["parameters"].(map[string]any)
		for p, v := range parameters {
			checkKeys(t, name+" parameter "+p, v, parameterKeys, "type")
			if !slices.Contains([]string{"string", "secureString", "int", "bool", "object", "secureObject", "array"}, text(at(v, "type"))) {
				t.Errorf("%s: parameter %s has the type %v", name, p, at(v, "type"))
			}
		}
		outputs, _ := template["outputs"].(map[string]any)
		for o, v := range outputs {
			checkKeys(t, name+" output "+o, v, outputKeys, "type", "value")
		}
		for _, r := range template["resources"].([]any) {
			checkResource(t, name, r)
		}
	}
}

func checkResource(t *testing.T, name string, r any) {
	t.Helper()
	kind, version := text(at(r, "type")), text(at(r, "apiVersion"))
	checkKeys(t, name+" "+kind, r, resourceKeys, "type", "apiVersion", "name", "properties")
	if !slices.Contains(knownVersions[kind], version) {
		t.Errorf("%s: %s has no version %s that we know of", name, kind, version)
	}
	top := strings.Join(strings.Split(kind, "/")[:2], "/")
	if strings.Contains(kind, "/providers/") { // of another service, on a resource of this one
		top = typeAssociation
	}
	if versions[top] != version {
		t.Errorf("%s: %s is made with %s and asked for with %s", name, kind, version, versions[top])
	}
	// What has a location can have tags, and must: the mark is in them.
	if tracked := strings.Count(kind, "/") == 1; tracked != (at(r, "tags") != nil) || tracked != (at(r, "location") != nil) {
		t.Errorf("%s: %s: tags %v, location %v", name, kind, at(r, "tags"), at(r, "location"))
	}
}

// secretive are the functions whose results are secrets; they may stand where Azure hides them.
var (
	asks   = regexp.MustCompile(`listKeys|listSecrets|listAccountSas|\.ConnectionString`)
	hidden = []string{"environmentVariables", "storageAccountKey", "diagnostics"}
)

func TestTemplateSecrets(t *testing.T) {
	t.Parallel()
	for name, template := range all(t) {
		w := &secretWalk{t: t, name: name}
		parameters, _ := template["parameters"].(map[string]any)
		for p, v := range parameters {
			if strings.HasPrefix(text(at(v, "type")), "secure") {
				w.secure = append(w.secure, p)
				if at(v, "defaultValue") != nil {
					t.Errorf("%s: the secret %s has a default", name, p)
				}
			}
		}
		w.walk("", template["resources"])
		w.walk("outputs", template["outputs"])
	}
}

// secretWalk looks for secrets where Azure would tell them.
type secretWalk struct {
	t      *testing.T
	name   string
	secure []string // parameters
}

func (w *secretWalk) walk(under string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			if under != "outputs" {
				w.walk(key, inner)
			} else {
				w.walk(under, inner)
			}
		}
	case []any:
		for _, inner := range v {
			w.walk(under, inner)
		}
	case string:
		w.check(under, v)
	}
}

func (w *secretWalk) check(under, v string) {
	uses := asks.MatchString(v)
	for _, p := range w.secure {
		uses = uses || strings.Contains(v, "parameters('"+p+"')")
	}
	if uses && !slices.Contains(hidden, under) {
		w.t.Errorf("%s: %s would tell a secret: %s", w.name, under, v)
	}
	if under == "environmentVariables" && strings.Contains(v, "'value',") {
		w.t.Errorf("%s: a variable that is asked for is not secret: %s", w.name, v)
	}
}

var uses = regexp.MustCompile(`parameters\('([A-Za-z]+)'\)`)

// Each parameter that is declared is used and given, and the other way round; what a resource
// depends on is in its template.
func TestTemplateReferences(t *testing.T) {
	t.Parallel()
	given := map[string]map[string]any{}
	for _, change := range variants() {
		c := example(t)
		change(c)
		cloud := newCloud()
		cloud.kubeconfig = answering(t)
		if err := apply(t.Context(), cloud.driver(t), c); err != nil {
			t.Fatal(err)
		}
		for _, d := range cloud.sent {
			template, parameters, err := opened(d)
			if err != nil {
				t.Fatal(err)
			}
			for name, embedded := range all(t) {
				if cmp.Equal(embedded, template) {
					given[name] = parameters
					checkValues(t, name, embedded, parameters)
				}
			}
		}
	}
	for name, template := range all(t) {
		body, err := json.Marshal([]any{template["resources"], template["outputs"]})
		if err != nil {
			t.Fatal(err)
		}
		used := map[string]bool{}
		for _, m := range uses.FindAllStringSubmatch(string(body), -1) {
			used[m[1]] = true
		}
		declared := template["parameters"].(map[string]any)
		if a, b := slices.Sorted(maps.Keys(used)), slices.Sorted(maps.Keys(declared)); !slices.Equal(a, b) {
			t.Errorf("%s: it uses %v and declares %v", name, a, b)
		}
		if given[name] == nil {
			t.Errorf("%s: nobody deploys it", name)
		} else if a, b := slices.Sorted(maps.Keys(given[name])), slices.Sorted(maps.Keys(declared)); !slices.Equal(a, b) {
			t.Errorf("%s: it is given %v and declares %v", name, a, b)
		}
		checkDependencies(t, name, template, given[name])
	}
}

// checkValues holds values against what the template says of its parameters, as Azure does.
func checkValues(t *testing.T, name string, template, values map[string]any) {
	t.Helper()
	for p, v := range values {
		def := at(template, "parameters", p)
		want := strings.ToLower(strings.TrimPrefix(text(at(def, "type")), "secure"))
		is := kindOf(v)
		if _, isBool := v.(bool); isBool {
			is = "bool"
		}
		if is == "number" {
			is = "int"
		}
		if is != want {
			t.Errorf("%s: %s is %s, want %s", name, p, is, want)
		}
		length, number := len(text(v)), 0.0
		if n, ok := v.(float64); ok {
			number = n
		}
		for key, bad := range map[string]func(float64) bool{
			"minLength": func(n float64) bool { return float64(length) < n }, "maxLength": func(n float64) bool { return float64(length) > n },
			"minValue": func(n float64) bool { return number < n }, "maxValue": func(n float64) bool { return number > n },
		} {
			if n, ok := at(def, key).(float64); ok && bad(n) {
				t.Errorf("%s: %s is %v, and its %s is %v", name, p, v, key, n)
			}
		}
		if allowed, ok := at(def, "allowedValues").([]any); ok && !slices.Contains(allowed, v) {
			t.Errorf("%s: %s is %v, want one of %v", name, p, v, allowed)
		}
	}
}

func checkDependencies(t *testing.T, name string, template, parameters map[string]any) {
	t.Helper()
	s := &scope{group: "g", parameters: parameters, copies: map[string]int{}, seen: map[string]bool{}}
	ids := map[string]bool{}
	for _, r := range template["resources"].([]any) {
		full, err := s.expand(at(r, "name"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		args := []any{at(r, "type")}
		for part := range strings.SplitSeq(full.(string), "/") {
			args = append(args, part)
		}
		id := s.resourceID(args) // panics if name and type have not as many parts
		for _, on := range elements(at(r, "dependsOn")) {
			other, err := s.expand(on)
			if err != nil || !ids[text(other)] {
				t.Errorf("%s: %v depends on %v, which is not before it in the template: %v", name, full, other, err)
			}
		}
		if p := parent(id, len(strings.Split(text(at(r, "type")), "/"))); p != id && ids[p] && len(elements(at(r, "dependsOn"))) == 0 {
			t.Errorf("%s: %v does not depend on what it is in", name, full)
		}
		ids[id] = true
	}
}

// variants are files that use all of the templates between them.
func variants() map[string]func(*config.Cluster) {
	return map[string]func(*config.Cluster){
		"servicebus": func(*config.Cluster) {},
		"storage": func(c *config.Cluster) {
			c.Queue = config.Queue{Kind: config.QueueStorage, Request: "requests", Response: "responses"}
			c.Monitor = config.Monitor{}
			c.Share = append(c.Share, config.Share{At: "/theirs", Files: &config.AzureFiles{Account: "lake", Share: "models", Key: &config.Value{Env: "SECRET"}}})
		},
		"broker": func(c *config.Cluster) {
			c.Queue = config.Queue{Kind: config.QueueRabbitMQ, Request: "in", Response: "out", URL: &config.Value{Env: "BROKER"}}
			c.Monitor, c.Share, c.Workers.Environment, c.Workers.Labels = config.Monitor{}, nil, nil, nil
		},
		"aks": func(c *config.Cluster) {
			c.Name, c.Workers.Labels = "demo", nil
			c.Azure.Compute = config.ComputeAKS
		},
		"aks-scaling": func(c *config.Cluster) {
			c.Name, c.Workers.Labels, c.Monitor = "demo", nil, config.Monitor{}
			c.Azure.Compute, c.Azure.AKS = config.ComputeAKS, &config.AKS{VMSize: "Standard_D8s_v5", Nodes: 2, MaxNodes: 9}
		},
	}
}

// Golden files: each deployment of a cluster, with its template, parameters and tags, as it is
// sent, and what of a worker is made of it.
func TestGolden(t *testing.T) {
	t.Parallel()
	for name, change := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud, c := newCloud(), example(t)
			change(c)
			c.Workers.Count, cloud.kubeconfig = 1, answering(t)
			if err := apply(t.Context(), cloud.driver(t), c); err != nil {
				t.Fatal(err)
			}
			sent := map[string]any{}
			for n, d := range cloud.sent {
				_, parameters, err := opened(d)
				if err != nil {
					t.Fatal(err)
				}
				if text, ok := parameters["config"].(string); ok { // the directory is another one each time
					parameters["config"] = strings.ReplaceAll(text, c.Dir, "/DIR")
					delete(d.Tags, tagDigest)
				}
				sent[n] = map[string]any{"mode": d.Properties.Mode, "tags": d.Tags, "parameters": parameters}
			}
			made := map[string]any{}
			for id, r := range cloud.resources {
				made[id] = map[string]any{"tags": r.tags, "sku": r.sku, "location": r.location, "properties": r.properties}
			}
			golden(t, name+".deployments.json", sent)
			golden(t, name+".resources.json", made)
		})
	}
}

func golden(t *testing.T, name string, v any) {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(text)); diff != "" {
		t.Errorf("%s (go test -run Golden -update writes it): %s", path, diff)
	}
}

// nameRules are Azure's, by what is named (learn.microsoft.com, resource name rules).
var nameRules = map[string]*regexp.Regexp{
	"group":      regexp.MustCompile(`^[-\w.()]{0,89}[-\w()]$`),
	"account":    regexp.MustCompile(`^[a-z0-9]{3,24}$`),
	"namespace":  regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{4,48}[A-Za-z0-9]$`),
	"workspace":  regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{2,61}[A-Za-z0-9]$`),
	"insights":   regexp.MustCompile(`^[^%&\\?/]{0,259}[^%&\\?/. ]$`),
	"aks":        regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,52}[a-zA-Z0-9])?$`), // also of its DNS prefix
	"worker":     regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`),
	"share":      regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{1,61}[a-z0-9])$`),
	"deployment": regexp.MustCompile(`^[-\w.()]{1,64}$`),
}

func FuzzNames(f *testing.F) {
	for _, seed := range []string{"a", "Demo", "--", "ünïcode", "a.b_c-d", strings.Repeat("long-", 40), "1", "-sb"} {
		f.Add(seed, "/data", 700)
	}
	d := &Driver{subscription: testSubscription}
	f.Fuzz(func(t *testing.T, cluster, path string, i int) {
		n := d.names(cluster, "g")
		id := driver.ID{Kind: kindNamespace, Name: path}
		for kind, names := range map[string][]string{
			"account": {n.support(), n.account(), n.compact("s")}, "namespace": {n.namespace()}, "workspace": {n.workspace()}, "insights": {n.insights()},
			"aks": {n.aks()}, "group": {n.nodeGroup()[:min(len(n.nodeGroup()), 80)], n.nodeGroup()},
			"worker": {n.worker(max(i, 1) % mostWorkers)}, "share": {n.share(path), lockContainer},
			"deployment": {n.deployment(id), n.lockDeployment(), n.deployment(driver.ID{Kind: driver.KindCluster, Name: cluster})},
		} {
			for _, name := range names {
				if !nameRules[kind].MatchString(name) || strings.Contains(name, "--") {
					t.Errorf("%q is no name of a %s", name, kind)
				}
			}
		}
		if strings.HasSuffix(n.namespace(), "-sb") || strings.HasSuffix(n.namespace(), "-mgmt") {
			t.Errorf("%q is reserved", n.namespace())
		}
		if n.support() == n.account() || d.names(cluster, "g2").namespace() == n.namespace() || d.names(cluster+"x", "g").support() == n.support() {
			t.Errorf("names of two are one: %v", n)
		}
	})
}
