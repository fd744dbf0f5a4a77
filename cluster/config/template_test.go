package config

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
)

// What has to be filled in, by provider, and with what a test fills it.
var fills = map[Provider][][3]string{
	ProviderSSH: {
		{"user@worker-1.example", "user@10.0.0.1", "ssh.hosts[0]: user@worker-1.example stands for a machine of yours: fill in"},
		{"user@worker-2.example", "user@10.0.0.2", "ssh.hosts[1]: user@worker-2.example stands for a machine of yours: fill in"},
	},
	ProviderKubernetes: {{"registry.example/", "registry.lan/", "workers.image: registry.example/navvy:1.0 stands for an image of yours: fill in"}},
	ProviderAzure: {
		{"registry.example/", "registry.lan/", "workers.image: registry.example/navvy:1.0 stands for an image of yours: fill in"},
		{noSubscription, "9fda6ae5-1210-43b9-a2da-703f0cdc253e", "azure.subscription: it stands for a subscription of yours: fill in"},
	},
}

// Each template is a file of its provider that works when it is filled in, and says until
// then what is to be.
func TestTemplates(t *testing.T) {
	t.Parallel()
	for _, p := range Providers() {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			text, err := Template(p)
			if err != nil {
				t.Fatal(err)
			}
			if err := conforms(t, text); err != nil {
				t.Error(err)
			}
			if _, err := Parse("t.yaml", text); err != nil {
				t.Error(err)
			}
			asItIs(t, p, text)
			filled := string(text)
			for _, fill := range fills[p] {
				filled = strings.ReplaceAll(filled, fill[0], fill[1])
			}
			c, err := Read("t.yaml", []byte(filled), "")
			if err != nil || c.Provider != p {
				t.Errorf("filled in: %v", err)
			}
			if marked := strings.Contains(filled, "FILL IN"); marked != (len(fills[p]) > 0) {
				t.Errorf("it marks what is to be filled in: %t", marked)
			}
		})
	}
	for _, p := range []Provider{"", "aws", "../config", "locl"} {
		if _, err := Template(p); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%q: %v", p, err)
		}
	}
}

// asItIs wants a template to be fine, or to be refused for what has to be filled in alone.
func asItIs(t *testing.T, p Provider, text []byte) {
	t.Helper()
	_, err := Read("t.yaml", text, "")
	if len(fills[p]) == 0 {
		if err != nil {
			t.Error(err)
		}
		return
	}
	m, ok := errors.AsType[*Mistakes](err)
	if !ok || len(m.List) != len(fills[p]) {
		t.Fatal(err)
	}
	for _, fill := range fills[p] {
		if !strings.Contains(err.Error(), fill[2]) {
			t.Errorf("it does not say %s: %v", fill[2], err)
		}
	}
}

var commented = regexp.MustCompile(`(?m)^( *)# ( *(?:- )?[A-Za-z_]+:(?: .*)?)$`)

// What a template has in comments is right, too: without the # it is read, but for keys that
// are there twice then, as each says another way.
func TestTemplateComments(t *testing.T) {
	t.Parallel()
	for _, p := range Providers() {
		text, err := Template(p)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(commented.FindAll(text, -1)); n < 12 {
			t.Errorf("the template of %s has %d keys in comments", p, n)
		}
		_, err = Parse("t.yaml", commented.ReplaceAll(text, []byte("$1$2")))
		m, ok := errors.AsType[*Mistakes](err)
		if !ok || m.More > 0 {
			t.Fatal(err)
		}
		for _, one := range m.List {
			if !strings.Contains(one.Why, "the key is there twice") {
				t.Errorf("the template of %s: %v", p, one)
			}
		}
	}
}
