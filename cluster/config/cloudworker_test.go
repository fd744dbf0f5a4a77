package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/service"
)

const guidOf = "9fda6ae5-1210-43b9-a2da-703f0cdc253e"

// What CloudWorker's tools read, as their users have it.
const older = `{
  "SubScriptionId": "` + guidOf + `",
  "Location": "westeurope",
  "Service": "GRPC",
  "NodeCount": 3,
  "NodeOptions": {"CpuCount": 2, "MemInGB": 4, "Image": "registry.lan/navvy:1"},
  "EnvironmentVariables": [
    {"Name": "GRPC_ServerURL", "Value": "http://localhost:8080"},
    {"Name": "GRPC_ServerFileName", "Value": "/myfiles/Hello World/GRpcHello"},
    {"Name": "grpc_serverarguments", "Value": "--mode \"very fast\" C:\\x \\\"q\\\" it's"},
    {"Name": "GRPC_ServerUpTimeout", "Value": "00:01:30"},
    {"Name": "Worker__Concurrency", "Value": "7"},
    {"Name": "Queues__QueryInterval", "Value": "500"},
    {"Name": "MODE", "Value": "fast", "SecureValue": null},
    {"Name": "TOKEN", "SecureValue": {"env": "TOKEN"}}
  ],
  "FileShares": [
    {"Name": "MyFileShare", "MountPath": "/myfiles", "FileShareName": "files", "StorageAccountName": "acc", "StorageAccountKey": {"env": "STORAGE_KEY"}}
  ],
  "ServiceBusQueueOptions": {"Sku": "Premium", "SkuCapacity": 1, "SizeInMB": null, "LockDuration": "PT2M", "RequestQueue": "in", "ResponseQueue": "out"}
}
`

func TestCloudWorker(t *testing.T) {
	t.Parallel()
	c, err := Read("/x/My_Session Config.json", []byte(older), "/x")
	if err != nil {
		t.Fatal(err)
	}
	want := &Cluster{
		Version: 1, Name: "my-session-config", Provider: ProviderAzure, Dir: "/x",
		Queue: Queue{Kind: QueueServiceBus, Request: "in", Response: "out", Lease: Duration(2 * time.Minute), SKU: "Premium"},
		Share: []Share{{Files: &AzureFiles{"acc", "files", &Value{Env: "STORAGE_KEY"}}, At: "/myfiles"}},
		Service: Service{
			Kind: ServiceGRPCAny, Address: "localhost:8080", UpTimeout: Duration(90 * time.Second),
			Command: `'/myfiles/Hello World/GRpcHello' --mode 'very fast' 'C:\x' '"q"' 'it'\''s'`,
		},
		Monitor: Monitor{Kind: MonitorInsights},
		Workers: Workers{
			Count: 3, Concurrency: 7, CPUs: "2", Memory: "4G", Image: "registry.lan/navvy:1",
			Environment: map[string]Value{"MODE": {Text: "fast"}, "TOKEN": {Env: "TOKEN"}},
		},
		Azure: &Azure{Subscription: guidOf, Location: "westeurope"},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	words, err := service.Words(c.Service.Command)
	if diff := cmp.Diff([]string{"/myfiles/Hello World/GRpcHello", "--mode", "very fast", `C:\x`, `"q"`, "it's"}, words); err != nil || diff != "" {
		t.Error(err, diff)
	}
	again, err := Parse("c.json", Encode(c))
	if again != nil {
		again.Dir = c.Dir
	}
	if diff := cmp.Diff(c, again); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// The least there is, in YAML, is what it was there: echo, ten nodes, Service Bus. Only the
// image has to be said.
func TestCloudWorkerLeast(t *testing.T) {
	t.Parallel()
	c, err := Parse("-", []byte("SubScriptionId: "+guidOf+"\n"))
	want := &Cluster{
		Version: 1, Name: "cloudworker", Provider: ProviderAzure, Queue: Queue{Kind: QueueServiceBus}, Service: Service{Kind: ServiceEcho},
		Monitor: Monitor{Kind: MonitorInsights}, Workers: Workers{Count: 10, Concurrency: 100, CPUs: "1", Memory: "1G"},
		Azure: &Azure{Subscription: guidOf, Location: "southeastasia"},
	}
	if diff := cmp.Diff(want, c); err != nil || diff != "" {
		t.Error(err, diff)
	}
	_, err = Read("x.json", []byte("SubScriptionId: "+guidOf+"\nNodeCount: 200000\n"), "")
	if err == nil || !strings.HasPrefix(err.Error(), "x.json:1: NodeOptions.Image: it is missing: workers are containers on azure") ||
		!strings.Contains(err.Error(), "\nx.json:2: NodeCount: 200000 are too many") {
		t.Error(err)
	}
	c, err = Parse("a.json", []byte(`{"Name": "b", "SubScriptionId": "x", "Service": "cgi", "EnvironmentVariables": [
		{"Name": "CGI_FileName", "Value": "/bin/sh"}, {"Name": "CGI_Arguments", "Value": "-c \"cat | wc\""},
		{"Name": "Queues__QueueType", "Value": "Storage"}, {"Name": "Queues__MessageLease", "Value": "30"}, {"Name": "Queues__Request__QueueName", "Value": "in"}]}`))
	if err != nil || c.Name != "b" || c.Service.Form() != "cgi:/bin/sh -c 'cat | wc'" || c.Queue.Kind != QueueStorage || c.Queue.Lease.String() != "30s" || c.Queue.Request != "in" {
		t.Error(c, err)
	}
}

func TestCloudWorkerMistakes(t *testing.T) {
	t.Parallel()
	but := func(part, other string) string {
		if !strings.Contains(older, part) {
			t.Fatal(part)
		}
		return strings.Replace(older, part, other, 1)
	}
	variable := func(text string) string { return but(`{"Name": "MODE"`, text+`, {"Name": "MODE"`) }
	for text, want := range map[string]string{
		but(`"NodeCount"`, `"version": 1, "NodeCount"`):                                  "o.json:2: SubScriptionId: it is a key of CloudWorker, and version one of navvy",
		but(`"NodeCount"`, `"NodeCuont"`):                                                "o.json:5: NodeCuont: there is no such key; did you mean NodeCount?",
		but(`"NodeCount"`, `"nodeCount"`):                                                "o.json:5: nodeCount: there is no such key; did you mean NodeCount?",
		`{"Servise": "echo"}`:                                                            "o.json:1: Servise: there is no such key; did you mean Service?\no.json:1: SubScriptionId: it is missing",
		but(`"CpuCount"`, `"CPUs"`):                                                      "o.json:6: NodeOptions.CPUs: there is no such key",
		but(`"NodeCount": 3`, `"NodeCount": "3"`):                                        `o.json:5: NodeCount: want a whole number, not "3"`,
		but(`"MountPath"`, `"MountPaht"`):                                                "o.json:18: FileShares[0].MountPaht: there is no such key; did you mean FileShares[0].MountPath?",
		but(guidOf, ""):                                                                  "o.json:2: SubScriptionId: it is empty: fill in",
		but("GRPC", "custom"):                                                            "o.json:4: Service: navvy loads no .NET assemblies",
		but("GRPC", "gprc"):                                                              `o.json:4: Service: "gprc" is none of echo, cgi, grpc; did you mean grpc?`,
		but("GRPC", "cgi"):                                                               "o.json:7: EnvironmentVariables: CGI_FileName is missing",
		but("GRPC_ServerURL", "X"):                                                       "o.json:7: EnvironmentVariables: GRPC_ServerURL is missing",
		but("PT2M", "2m"):                                                                `o.json:20: ServiceBusQueueOptions.LockDuration: "2m": want a time span such as PT1M`,
		but(`"SkuCapacity": 1`, `"SkuCapacity": 2`):                                      "o.json:20: ServiceBusQueueOptions.SkuCapacity: navvy makes namespaces of one unit",
		but(`"SizeInMB": null`, `"SizeInMB": 2048`):                                      "o.json:20: ServiceBusQueueOptions.SizeInMB: queues have the size that Azure gives them",
		but(`{"env": "STORAGE_KEY"}`, `"s3cret"`):                                        "o.json:18: FileShares[0].StorageAccountKey: a secret is not written into this file",
		but(`{"env": "STORAGE_KEY"}`, "null"):                                            "o.json:18: FileShares[0].StorageAccountKey: it is missing",
		but(`"FileShareName": "files"`, `"FileShareName": ""`):                           "o.json:18: FileShares[0].FileShareName: it is empty",
		but(`"env": "TOKEN"}`, `"evn": "TOKEN"}`):                                        "o.json:15: EnvironmentVariables[7].SecureValue.evn: there is no such key",
		but(`{"env": "TOKEN"}`, `"s3cret"`):                                              "o.json:15: EnvironmentVariables[7].SecureValue: a secret is not written into this file",
		but(`"SecureValue": {"env": "TOKEN"}`, `"Value": null`):                          "o.json:15: EnvironmentVariables[7]: TOKEN has neither a Value nor a SecureValue",
		variable(`{"Name": "mode", "Value": "x"}`):                                       "o.json:14: EnvironmentVariables[7].Name: MODE is there twice",
		variable(`{"Name": "", "Value": "x"}`):                                           "o.json:14: EnvironmentVariables[6].Name: want 1 to 128 letters",
		variable(`{"Name": "Queues__ConnectionString", "Value": "s3cret"}`):              "o.json:14: EnvironmentVariables, Queues__ConnectionString: the cluster makes its queues",
		variable(`{"Name": "ApplicationInsights__ConnectionString", "Value": "s3cret"}`): "o.json:14: EnvironmentVariables, ApplicationInsights__ConnectionString: the cluster makes",
		variable(`{"Name": "Queues__QueueType", "Value": "kafka"}`):                      "o.json:14: EnvironmentVariables, Queues__QueueType: want servicebus or storage",
		variable(`{"Name": "Queues__MessageLease", "Value": {"env": "X"}}`):              "o.json:14: EnvironmentVariables, Queues__MessageLease: a setting of the cluster is written as a text",
		but(`"Value": "7"`, `"Value": "0"`):                                              "o.json:12: EnvironmentVariables, Worker__Concurrency: want a number from 1",
		but("00:01:30", "1:30"):                                                          "o.json:11: EnvironmentVariables, GRPC_ServerUpTimeout: want a time span",
		but("registry.lan/navvy:1", "a b"):                                               `o.json:6: NodeOptions.Image: "a b" is no reference of an image`,
		but(`"Premium"`, `"Gold"`):                                                       `o.json:20: ServiceBusQueueOptions.Sku: "Gold" is none of Basic, Standard, Premium`,
	} {
		_, err := Read("o.json", []byte(text), "")
		if !errors.Is(err, navvy.ErrInvalid) || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

func TestNetArguments(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"": nil, "  ": nil, "a  b": {"a", "b"}, `"a b" c`: {"a b", "c"}, `a"b c"d`: {"ab cd"}, `""`: {""}, `"a""b"`: {`a"b`},
		`\"a\"`: {`"a"`}, `a\b\\c`: {`a\b\\c`}, `"a\\" b`: {`a\`, "b"}, `a\\\"b`: {`a\"b`}, "a\\": {"a\\"}, "it's": {"it's"},
	} {
		if diff := cmp.Diff(want, netArguments(text)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}
