package config

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	hostName      = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	userName      = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
	guid          = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	location      = regexp.MustCompile(`^[a-z][a-z0-9]*$`)
	vmSize        = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)
	resourceGroup = regexp.MustCompile(`^[A-Za-z0-9_().-]{0,89}[A-Za-z0-9_()-]$`)
)

// noSubscription is what stands for a subscription that is to be filled in.
const noSubscription = "00000000-0000-0000-0000-000000000000"

// placeholder tells whether a host is one of those that there never are (RFC 2606).
func placeholder(host string) bool {
	host, _, _ = strings.Cut(strings.ToLower(host), ":")
	return slices.ContainsFunc([]string{"example", "example.com", "example.org", "example.net"}, func(reserved string) bool {
		return host == reserved || strings.HasSuffix(host, "."+reserved)
	})
}

// sections checks those of providers: only the cluster's own may be there.
func (k *checker) sections() {
	for _, s := range []struct {
		of    Provider
		there bool
	}{
		{ProviderLocal, k.Local != nil}, {ProviderSSH, k.SSH != nil},
		{ProviderKubernetes, k.Kubernetes != nil}, {ProviderAzure, k.Azure != nil},
	} {
		if s.there && s.of != k.Provider {
			k.wrong(string(s.of), "the provider is %s; take this section out, or write provider: %s", k.Provider, s.of)
		}
	}
	switch k.Provider {
	case ProviderLocal:
	case ProviderSSH:
		k.ssh()
	case ProviderKubernetes:
		k.kubernetes()
	case ProviderAzure:
		k.azure()
	}
}

func (k *checker) ssh() {
	s := k.SSH
	if s == nil || len(s.Hosts) == 0 {
		k.wrong("ssh.hosts", "it is missing: the machines for the workers, as [USER@]HOST[:PORT]")
		return
	}
	k.hosts(s.Hosts)
	if s.Server != "" {
		if _, ok := hostPort(s.Server); !ok {
			k.wrong("ssh.server", "%q: want HOST or HOST:PORT", short(s.Server))
		}
	}
	switch {
	case s.Tunnel == nil:
	case *s.Tunnel && s.Server != "":
		k.wrong("ssh.tunnel", "with a tunnel the hosts do not use ssh.server; take one of the two out")
	case !*s.Tunnel && s.Server == "" && k.Queue.Kind.Server():
		k.wrong("ssh.server", "it is missing: without a tunnel the hosts want to know where this machine is")
	}
}

func (k *checker) hosts(hosts []string) {
	for i, text := range hosts {
		key := fmt.Sprintf("ssh.hosts[%d]", i)
		user, host, found := strings.Cut(text, "@")
		if !found {
			user, host = "", text
		}
		at, ok := hostPort(host)
		switch {
		case !ok || found && !userName.MatchString(user):
			k.wrong(key, "%q: want [USER@]HOST[:PORT]", short(text))
		case placeholder(at):
			k.wrong(key, "%s stands for a machine of yours: fill in those that you reach by ssh", text)
		case slices.Index(hosts, text) < i:
			k.wrong(key, "%s is there twice; workers go to the hosts in turns", text)
		}
	}
}

// hostPort reads HOST, HOST:PORT, or an address of IPv6 in brackets.
func hostPort(text string) (host string, ok bool) {
	host = text
	if strings.Contains(text, ":") {
		var port string
		var err error
		if strings.HasSuffix(text, "]") {
			text += ":22"
		}
		if host, port, err = net.SplitHostPort(text); err != nil {
			return "", false
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", false
		}
		if strings.HasPrefix(text, "[") {
			return host, net.ParseIP(host) != nil
		}
	}
	return host, hostName.MatchString(host)
}

func (k *checker) kubernetes() {
	s := k.Kubernetes
	switch {
	case s == nil:
	case s.Namespace != "" && !namespaceName.MatchString(s.Namespace):
		k.wrong("kubernetes.namespace", "%q: want 1 to 63 small letters, digits and - between them", short(s.Namespace))
	case s.Scaler != "" && k.Workers.Autoscale == nil:
		k.wrong("kubernetes.scaler", "it scales within the bounds of workers.autoscale, and there are none")
	}
}

func (k *checker) azure() {
	s := k.Azure
	if s == nil {
		k.wrong("azure", "it is missing: which subscription and location")
		return
	}
	switch {
	case s.Subscription == noSubscription:
		k.wrong("azure.subscription", "it stands for a subscription of yours: fill in its id, which az account show tells")
	case !guid.MatchString(s.Subscription):
		k.wrong("azure.subscription", "%q: want the id of a subscription, such as %s; az account show tells it", short(s.Subscription), noSubscription)
	}
	if !location.MatchString(s.Location) {
		k.wrong("azure.location", "%q: want the name of a region as az account list-locations tells it, such as westeurope", short(s.Location))
	}
	if s.ResourceGroup != "" && !resourceGroup.MatchString(s.ResourceGroup) {
		k.wrong("azure.resource_group", "%q: want 1 to 90 letters, digits and . _ ( ) -, no . at the end", short(s.ResourceGroup))
	}
	k.aks()
}

// maxNodes is how many nodes Azure has addresses for in the network that the cluster is given.
const maxNodes = 250

func (k *checker) aks() {
	s := k.Azure.AKS
	if s == nil {
		return
	}
	switch {
	case k.Azure.Compute != ComputeAKS:
		k.wrong("azure.aks", "it is for azure.compute: aks; take it out, or write that")
	case s.VMSize != "" && !vmSize.MatchString(s.VMSize):
		k.wrong("azure.aks.vm_size", "%q: want the name of a size as az vm list-sizes tells it, such as %s", short(s.VMSize), DefaultVMSize)
	case s.Nodes > maxNodes, s.MaxNodes > maxNodes:
		k.wrong("azure.aks.nodes", "%d is too much, %d is the most", max(s.Nodes, s.MaxNodes), maxNodes)
	case s.MaxNodes != 0 && s.MaxNodes < s.Nodes:
		k.wrong("azure.aks.max_nodes", "%d is less than nodes, %d", s.MaxNodes, s.Nodes)
	case s.Nodes == 0 && s.MaxNodes == 0 && s.VMSize != "" && s.VMSize != DefaultVMSize:
		k.wrong("azure.aks.nodes", "it is missing: of a vm_size other than %s navvy does not know how many workers a node has room for", DefaultVMSize)
	}
}
