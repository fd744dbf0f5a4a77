package cloudworker_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/gateway/cloudworker"
)

const (
	storage = "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net"
	bus     = "Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=c2VjcmV0"
)

func TestFromEnvironment(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		env  []string
		want cloudworker.Settings
	}{
		"least": {[]string{"Queues__QueueType=storage", "Queues__ConnectionString=" + storage}, cloudworker.Settings{
			Requests:  cloudworker.Queue{URL: "azqueue://acc/requests", Kind: "storage", Connection: storage},
			Responses: cloudworker.Queue{URL: "azqueue://acc/responses", Kind: "storage", Connection: storage},
		}},
		"all": {[]string{
			"QUEUES__QUEUETYPE=ServiceBus", "queues__connectionstring=" + bus, "Queues__MessageLease=00:00:30",
			"Queues__Request__QueueName=in", "Queues__Response__QueueName=out", "Queues__Response__QueueType=storage",
			"Queues__Response__ConnectionString=" + storage, "Queues__QueryInterval=00:00:00.5000000",
			"Queues__RetryOnThrottled=True", "Worker__Concurrency=25", "GRPC_ServerURL=http://localhost:50051", "GRPC_ServerUpTimeout=45",
		}, cloudworker.Settings{
			Requests:    cloudworker.Queue{URL: "azservicebus://ns.servicebus.windows.net/in", Kind: "servicebus", Connection: bus, Lease: 30 * time.Second},
			Responses:   cloudworker.Queue{URL: "azqueue://acc/out?interval=500ms", Kind: "storage", Connection: storage, Lease: 30 * time.Second},
			Concurrency: 25, Service: "grpc-any:localhost:50051", UpTimeout: 45 * time.Second,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, ok, err := cloudworker.FromEnvironment(tc.env)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			if diff := cmp.Diff(tc.want, *s); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestServices(t *testing.T) {
	t.Parallel()
	for env, want := range map[string]string{
		"":                                "",
		"CGI_FileName=/bin/cat":           "cgi:/bin/cat",
		"CGI_FileName=tr;CGI_Arguments=a": "cgi:tr a",
		"GRPC_ServerURL=http://localhost:5000/;GRPC_ServerFileName=python3;GRPC_ServerArguments=s.py": "grpc-any-cmd:localhost:5000 python3 s.py",
	} {
		list := append(strings.Split(env, ";"), "Queues__QueueType=storage", "Queues__ConnectionString="+storage)
		s, _, err := cloudworker.FromEnvironment(list)
		if err != nil || s.Service != want {
			t.Errorf("%q: %+v, %v", env, s, err)
		}
	}
}

// Without a queue there are no settings; what is wrong is named, but for secrets.
func TestWrong(t *testing.T) {
	t.Parallel()
	if s, ok, err := cloudworker.FromEnvironment([]string{"PATH=/bin", "Worker__Concurrency=3"}); s != nil || ok || err != nil {
		t.Error(s, ok, err)
	}
	good := []string{"Queues__QueueType=storage", "Queues__ConnectionString=" + storage}
	for _, line := range []string{
		"Queues__QueueType=kafka", "Queues__Request__QueueType=servicebus", "Queues__ConnectionString=AccountKey=c2VjcmV0",
		"Queues__MessageLease=soon", "Queues__MessageLease=00:61:00", "Queues__MessageLease=-1", "Queues__MessageLease=0",
		"Queues__QueryInterval=1:2", "Queues__RetryOnThrottled=maybe", "Worker__Concurrency=0", "GRPC_ServerUpTimeout=x", "GRPC_ServerFileName=server",
	} {
		name, _, _ := strings.Cut(line, "=")
		_, _, err := cloudworker.FromEnvironment(append(good, line))
		if !errors.Is(err, navvy.ErrInvalid) || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: %v", line, err)
		} else if key := name[strings.LastIndex(name, "_")+1:]; !strings.Contains(err.Error(), key) && !strings.Contains(err.Error(), "ConnectionString") && key != "ServerFileName" {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
}

func FuzzSpan(f *testing.F) {
	for _, text := range []string{"60", "00:01:00", "1.02:03:04.5", "::", "1e309", "NaN"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, ok, err := cloudworker.FromEnvironment([]string{"Queues__QueueType=storage", "Queues__ConnectionString=" + storage, "Queues__MessageLease=" + text})
		if err == nil && ok && text != "" && s.Requests.Lease <= 0 {
			t.Errorf("%q is %s", text, s.Requests.Lease)
		}
	})
}
