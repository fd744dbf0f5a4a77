package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
)

// whole has each key of the file.
const whole = `# all there is
version: 1
name: words-2
provider: local
queue:
  kind: rabbitmq
  request: in
  response: out
  lease: 90
  url: {env: BROKER}
  sku: Standard
  attempts: 3
share:
  - from: ./data
    at: data
  - files:
      account: acc
      share: models
      key: {file: key.txt}
    at: models
service:
  kind: grpc-any
  command: ./serve --fast 'a b'
  address: 127.0.0.1:50051
  package: ocr@1.2
  up_timeout: 1.5m
  timeout: 7d
monitor: {kind: prometheus, dir: /var/lib/prom, collector: otel:1}
workers:
  count: 4
  concurrency: 2
  cpus: 1.5
  memory: 512M
  image: navvy:1
  environment:
    MODE: fast
    DEBUG: true
    LEVEL: 3
    EMPTY: ""
    SINCE: 2026-01-02
    TOKEN: {env: TOKEN}
    KEY: {file: ./key}
  labels: {gpu: a100, fast: yes, rack: 7}
  autoscale: {min: 1, max: 9}
local: {dir: /srv, supervisor: navvy}
ssh:
  hosts: [a@b, "c:22"]
  known_hosts: kh
  identity: id
  tunnel: false
  server: 10.0.0.1:7433
kubernetes: {context: prod, namespace: work, scaler: hpa}
azure: {subscription: s, location: l, resource_group: g, compute: aks, aks: {vm_size: v, nodes: 2, max_nodes: 3}}
`

func wholeCluster() *Cluster {
	no := false
	return &Cluster{
		Version: 1, Name: "words-2", Provider: ProviderLocal,
		Queue: Queue{
			Kind: QueueRabbitMQ, Request: "in", Response: "out", Lease: Duration(90 * time.Second),
			URL: &Value{Env: "BROKER"}, SKU: "Standard", Attempts: 3,
		},
		Share: []Share{{From: "./data", At: "data"}, {Files: &AzureFiles{"acc", "models", &Value{File: "key.txt"}}, At: "models"}},
		Service: Service{
			Kind: ServiceGRPCAny, Command: "./serve --fast 'a b'", Address: "127.0.0.1:50051", Package: "ocr@1.2",
			UpTimeout: Duration(90 * time.Second), Timeout: Duration(7 * 24 * time.Hour),
		},
		Monitor: Monitor{Kind: MonitorPrometheus, Dir: "/var/lib/prom", Collector: "otel:1"},
		Workers: Workers{
			Count: 4, Concurrency: 2, CPUs: "1.5", Memory: "512M", Image: "navvy:1",
			Environment: map[string]Value{
				"MODE": {Text: "fast"}, "DEBUG": {Text: "true"}, "LEVEL": {Text: "3"}, "EMPTY": {}, "SINCE": {Text: "2026-01-02"},
				"TOKEN": {Env: "TOKEN"}, "KEY": {File: "./key"},
			},
			Labels:    map[string]string{"gpu": "a100", "fast": "yes", "rack": "7"},
			Autoscale: &Autoscale{1, 9},
		},
		Local:      &Local{"/srv", SupervisorNavvy},
		SSH:        &SSH{[]string{"a@b", "c:22"}, "kh", "id", &no, "10.0.0.1:7433"},
		Kubernetes: &Kubernetes{"prod", "work", ScalerHPA},
		Azure:      &Azure{"s", "l", "g", ComputeAKS, &AKS{"v", 2, 3}},
	}
}

// Each key is read, and comes back as it was written, in YAML and in JSON.
func TestParse(t *testing.T) {
	t.Parallel()
	c, err := Parse("cluster.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wholeCluster(), c); diff != "" {
		t.Fatal(diff)
	}
	for _, p := range pathsOf(typeOf(c), "") {
		if !strings.Contains(whole, p.path[strings.LastIndexByte(p.path, '.')+1:]+":") {
			t.Errorf("the example has no %s", p.path)
		}
	}
	text := Encode(c)
	again, err := Parse("cluster.json", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if diff := cmp.Diff(c, again); diff != "" {
		t.Error(diff)
	}
}

const least = "version: 1\nname: a\nprovider: local\nqueue: {kind: navvy}\nservice: {kind: echo}\nworkers: {count: 1}\n"

func TestMistakes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 300)
	for text, want := range map[string]string{
		// Keys.
		with("workers: {count: 1}", "workers:\n  conut: 1"): "c.yaml:7: workers.conut: there is no such key; did you mean workers.count?: invalid",
		least + "count: 1":                          "c.yaml:7: count: there is no such key here; did you mean workers.count?",
		least + "Queue: {}":                         "c.yaml:7: Queue: there is no such key; did you mean queue?",
		least + "zzzzzz: 1":                         "c.yaml:7: zzzzzz: there is no such key, only version, name, ",
		least + long + ": 1":                        "c.yaml:7: kkk",
		least + "[1]: 2":                            "c.yaml:7: want a word as a key, not a list",
		least + "name: b":                           "c.yaml:7: name: the key is there twice, also in line 2",
		least + "<<: {name: b}":                     "c.yaml:7: <<: there is no such key",
		with("count: 1", "cpus: 1"):                 "c.yaml:6: workers.count: it is missing",
		with("name: a\n", ""):                       "c.yaml:1: name: it is missing",
		with("{kind: navvy}", "{}"):                 "c.yaml:4: queue.kind: it is missing; want one of navvy, nats, rabbitmq, redis, servicebus, storage",
		with("{count: 1}", "{autoscale: {min: 1}}"): "c.yaml:6: workers.autoscale.max: it is missing",
		least + "azure: {}":                         "c.yaml:7: azure.subscription: it is missing\nc.yaml:7: azure.location: it is missing",
		// Values.
		with("name: a", "name: 5"):                                        `c.yaml:2: name: want a text; in quotes it is one: "5"`,
		with("name: a", "name:"):                                          "c.yaml:2: name: it has no value; write one, or take the key out",
		with("name: a", `name: ""`):                                       "c.yaml:2: name: it has no value",
		with("name: a", "name: [a]"):                                      "c.yaml:2: name: want one value, not a list",
		with("name: a", "name: &x a"):                                     "c.yaml:2: name: want the value itself, without & or *",
		with("name: a", "name: !!binary YQ=="):                            "c.yaml:2: name: want the value alone, without !!binary",
		with("version: 1", "version: 2"):                                  "c.yaml:1: version: 2 is newer than this navvy, which reads 1",
		with("version: 1", "version: 0"):                                  "c.yaml:1: version: 0 is too few, 1 is the least",
		with("version: 1", "version: one"):                                `c.yaml:1: version: want a whole number, not "one"`,
		with("provider: local", "provider: lokal"):                        `c.yaml:3: provider: "lokal" is none of local, ssh, kubernetes, azure; did you mean local?`,
		with("provider: local", "provider: aws"):                          `c.yaml:3: provider: "aws" is none of local, ssh, kubernetes, azure`,
		with("kind: navvy", "kind: kafka"):                                `c.yaml:4: queue.kind: "kafka" is none of `,
		with("{kind: echo}", "echo"):                                      `c.yaml:5: service: want keys with values, each on a line of its own, not "echo"`,
		with("{kind: echo}", ""):                                          "c.yaml:5: service: it has no value",
		with("count: 1", "count: -1"):                                     "c.yaml:6: workers.count: -1 is too few, 0 is the least",
		with("count: 1", "count: 1.5"):                                    `c.yaml:6: workers.count: want a whole number, not "1.5"`,
		with("count: 1", "count: 0x10"):                                   "c.yaml:6: workers.count: 0x10: want a whole number in plain digits",
		with("count: 1", "count: 99999999999"):                            "c.yaml:6: workers.count: 99999999999: want a whole number in plain digits, below 2^31",
		with("count: 1", "count: 1, memory: lots"):                        "c.yaml:6: workers.memory: lots: want a size such as 512M, 1.5G or 100KiB",
		with("count: 1", "count: 1, cpus: 1.00001"):                       "c.yaml:6: workers.cpus: 1.00001: want a number of cores",
		with("count: 1", "count: 1, cpus: true"):                          "c.yaml:6: workers.cpus: want a text",
		with("count: 1", "count: 1, labels: [a]"):                         "c.yaml:6: workers.labels: want names with values, each on a line of its own, not a list",
		with("count: 1", "count: 1, labels: {a: [b]}"):                    "c.yaml:6: workers.labels.a: want one value, not a list",
		with("count: 1", "count: 1, labels: {a: b, a: c}"):                "c.yaml:6: workers.labels.a: the name is there twice, also in line 6",
		with("count: 1", "count: 1, environment: {"+long+": b}"):          "c.yaml:6: workers.environment.kkk",
		with("count: 1", "count: 1, environment: {A: }"):                  "c.yaml:6: workers.environment.A: it has no value",
		with("count: 1", "count: 1, environment: {A: [b]}"):               "c.yaml:6: workers.environment.A: want a text, {env: NAME} or {file: PATH}, not a list",
		with("count: 1", "count: 1, environment: {A: {}}"):                "c.yaml:6: workers.environment.A: want either {env: NAME} or {file: PATH}",
		with("count: 1", "count: 1, environment: {A: {env: B, file: C}}"): "c.yaml:6: workers.environment.A: want either {env: NAME} or {file: PATH}",
		with("count: 1", "count: 1, environment: {A: {evn: B}}"):          "c.yaml:6: workers.environment.A.evn: there is no such key; did you mean workers.environment.A.env?",
		with("kind: navvy", "kind: navvy, lease: soon"):                   "c.yaml:4: queue.lease: soon: want a time span",
		with("kind: navvy", "kind: navvy, lease: 0"):                      "c.yaml:4: queue.lease: 0: want more than nothing",
		with("kind: navvy", "kind: navvy, lease: -5s"):                    "c.yaml:4: queue.lease: -5s: want more than nothing",
		with("kind: navvy", "kind: navvy, attempts: 0"):                   "c.yaml:4: queue.attempts: 0 is too few, 1 is the least",
		least + "share: {from: a}":                                        "c.yaml:7: share: want a list, each entry on a line with - before it, not keys with values",
		least + "share: [{from: a}]":                                      "c.yaml:7: share[0].at: it is missing",
		least + "ssh: {hosts: []}":                                        "c.yaml:7: ssh.hosts: there is nothing in it",
		least + "ssh: {hosts: [a, 5]}":                                    `c.yaml:7: ssh.hosts[1]: want a text; in quotes it is one: "5"`,
		least + "ssh: {hosts: [a], tunnel: yes}":                          `c.yaml:7: ssh.tunnel: want true or false, not "yes"`,
		// The file.
		"":                          "c.yaml: there is nothing in it; navvy cluster init writes a file to begin with",
		"# nothing\n":               "c.yaml: there is nothing in it",
		"null":                      "c.yaml: there is nothing in it",
		"- a":                       "c.yaml:1: want keys with values, each on a line of its own, not a list",
		least + "---\nname: b":      "c.yaml:7: there is more than one document in it; a cluster has a file of its own",
		"\tname: a":                 "c.yaml: found character that cannot start any token",
		"name: 'a\n":                "c.yaml:",
		"{\"name\": \"a\",\n \"que": "c.yaml:2: unexpected end of JSON input; the file seems to end in the middle",
		least + "nam":               "c.yaml:7: could not find expected ':'; the file seems to end in the middle",
		strings.Repeat("#", 2<<20):  "c.yaml: it has more than 1 MiB",
		"name: \xff":                "c.yaml: ",
		"a: &a [*a]":                "c.yaml:1: ",
	} {
		_, err := Parse("c.yaml", []byte(text))
		if !errors.Is(err, navvy.ErrInvalid) || !strings.HasPrefix(err.Error(), want) || len(err.Error()) > 1500 || !strings.HasSuffix(err.Error(), ": invalid") {
			t.Errorf("%.90q:\n%v\nwant %s", text, err, want)
		}
	}
}

// with is the least file with something else in the place of a part.
func with(part, other string) string {
	if !strings.Contains(least, part) {
		panic(part)
	}
	return strings.Replace(least, part, other, 1)
}

// A file that was cut off somewhere is refused, wherever that was.
func TestCut(t *testing.T) {
	t.Parallel()
	inJSON := string(Encode(wholeCluster()))
	for name, text := range map[string]string{"least": strings.TrimRight(least, "\n"), "JSON": strings.TrimRight(inJSON, "\n")} {
		for i := range len(text) {
			if c, err := Parse("c.yaml", []byte(text[:i])); !errors.Is(err, navvy.ErrInvalid) || c != nil {
				t.Errorf("%s cut after %d bytes, at %q: %v", name, i, text[max(0, i-20):i], err)
			}
		}
	}
}

// What a file has in it does not steer the terminal.
func TestControls(t *testing.T) {
	t.Parallel()
	for _, text := range []string{least + `"\e[31m\n": 1`, with("name: a", `name: "\e[2J\n"`), with("kind: echo", `kind: "\e"`), with("count: 1", `count: 1, labels: {"\e": [1]}`)} {
		_, err := Read("c.yaml", []byte(text), "")
		if err == nil || strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%q", err)
		}
	}
}

// Of many mistakes ten are told, in the order of the lines, and how many there are beside.
func TestManyMistakes(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 25 {
		fmt.Fprintf(&b, "x%d: 1\n", i)
	}
	_, err := Parse("c.yaml", []byte(least+b.String()))
	m, ok := errors.AsType[*Mistakes](err)
	if !ok || len(m.List) != 10 || m.More != 15 || m.List[0].Line != 7 || m.List[9].Line != 16 {
		t.Fatal(err)
	}
	if text := err.Error(); strings.Count(text, "\n") != 10 || !strings.HasSuffix(text, "\nand 15 more: invalid") {
		t.Error(text)
	}
}

// JSON is read as such: escapes, a byte order mark, tabs, the key of editors.
func TestJSON(t *testing.T) {
	t.Parallel()
	text := "\ufeff{\r\n\t\"$schema\": \"x\",\r\n\t\"version\": 1, \"name\": \"a\", \"provider\": \"local\", \"queue\": {\"kind\": \"navvy\"},\r\n" +
		"\t\"service\": {\"kind\": \"cgi\", \"command\": \"a\\/b \\ud83d\\ude00 \\\\ud83d \\u00e9 \\n\"}, \"workers\": {\"count\": 1}\r\n}\r\n"
	c, err := Parse("c.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if want := "a/b \U0001f600 \\ud83d é \n"; c.Service.Command != want {
		t.Errorf("got %q, want %q", c.Service.Command, want)
	}
	_, err = Parse("c.json", []byte(strings.Replace(text, `"count"`, `"conut"`, 1)))
	if err == nil || !strings.Contains(err.Error(), "c.json:4: workers.conut: there is no such key; did you mean workers.count?") {
		t.Error(err)
	}
}

// What was refused is told with its line also if it is the whole that makes no sense.
func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "cluster.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(least)
	c, err := Load(path)
	if err != nil || c.Dir != dir || c.Name != "a" {
		t.Fatal(c, err)
	}
	write(with("name: a", "name: Big") + "azure:\n  subscription: x\n  location: y\n")
	want := path + ":2: name: \"Big\": want 1 to 40 small letters"
	if _, err = Load(path); err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "\n"+path+":7: azure: the provider is local; take this section out") {
		t.Error(err)
	}
	write(strings.Repeat("#", 2<<20))
	if _, err = Load(path); !errors.Is(err, navvy.ErrInvalid) {
		t.Error(err)
	}
	if _, err = Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
