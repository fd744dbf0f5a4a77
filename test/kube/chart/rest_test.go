package chart_test

import (
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// REST of the gateway mstc asks nobody who they are: unless it is said that others reach it,
// it is on the pod's loopback, and no Service leads there.
func TestContractREST(t *testing.T) {
	t.Parallel()
	const mstc = "mstc.enabled=true,mstc.urlSecret=url"
	for values, port := range map[string]string{ // empty if it is not open
		mstc:                           "",
		mstc + ",mstc.rest.open=false": "",
		mstc + ",mstc.rest.open=true":  "8080",
		mstc + ",app.ports.rest=8081":  "8081",
		mstc + ",app.ports.rest=8081,mstc.rest.open=false": "",
		mstc + ",app.ports.rest=8081,mstc.rest.open=true":  "8081",
		"app.ports.rest=8081,mstc.rest.open=true":          "",
	} {
		list := render(t, "--set", values)
		server, service := find(t, list, "StatefulSet", "navvy-server").text, find(t, list, "Service", "navvy").text
		loopback := strings.Contains(server, "- --mstc=127.0.0.1:")
		open := strings.Contains(server, "- --insecure-listen")
		listed := strings.Contains(server, "name: rest") && strings.Contains(service, "name: rest")
		switch {
		case port == "" && (open || listed || strings.Contains(server+service, "name: rest") || loopback != strings.Contains(values, mstc)):
			t.Errorf("with %s others reach it:\n%s\n%s", values, server, service)
		case port != "" && (!open || !listed || loopback || !strings.Contains(server, "- --mstc=:"+port+"\n") || !strings.Contains(service, "port: "+port+",")):
			t.Errorf("with %s others do not reach it on port %s:\n%s\n%s", values, port, server, service)
		}
	}
}

// A NetworkPolicy bounds who reaches REST, and nothing else.
func TestContractRESTFrom(t *testing.T) {
	t.Parallel()
	type ports struct{ Port, EndPort int }
	type ingress struct {
		From  []map[string]any
		Ports []ports
	}
	const from = "mstc.enabled=true,mstc.urlSecret=url,mstc.rest.from[0].podSelector.matchLabels.app=clients"
	for _, o := range render(t, "--set", from) {
		if o.Kind == "NetworkPolicy" {
			t.Errorf("REST is not open, and there is\n%s", o.text)
		}
	}
	for port, others := range map[string][]ports{
		"8081": {{1, 8080}, {8082, 65535}}, "1": {{2, 65535}}, "65535": {{1, 65534}},
	} {
		var policy struct {
			Spec struct {
				PodSelector struct{ MatchLabels map[string]string }
				PolicyTypes []string
				Ingress     []ingress
			}
		}
		text := find(t, render(t, "--set", from+",app.ports.rest="+port), "NetworkPolicy", "navvy-server").text
		if err := yaml.Unmarshal([]byte(text), &policy); err != nil {
			t.Fatal(err)
		}
		var number int
		if err := yaml.Unmarshal([]byte(port), &number); err != nil {
			t.Fatal(err)
		}
		clients := []map[string]any{{"podSelector": map[string]any{"matchLabels": map[string]any{"app": "clients"}}}}
		want := []ingress{{From: clients, Ports: []ports{{Port: number}}}, {Ports: others}}
		if !reflect.DeepEqual(policy.Spec.Ingress, want) || policy.Spec.PodSelector.MatchLabels["app.kubernetes.io/component"] != "server" ||
			!reflect.DeepEqual(policy.Spec.PolicyTypes, []string{"Ingress"}) {
			t.Errorf("port %s:\n%s", port, text)
		}
	}
}
