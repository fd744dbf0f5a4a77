package azure

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/kubernetes"
	"github.com/navvy-run/navvy/quantity"
)

// What a node of config.DefaultVMSize, of 4 cores and 16 GiB, has for workers, in thousandths of a
// core, in bytes and in pods: the rest is the system's. Of 110 pods each node has some twenty of AKS.
const (
	nodeCPUs   = 3000
	nodeMemory = 11 << 30
	nodePods   = 90
	// mostNodes is how many a cluster has room for: each has 256 addresses of 65,536 for its pods.
	mostNodes = 250
)

func onAKS(c *config.Cluster) bool { return c.Azure.Compute == config.ComputeAKS }

// pool is what nodes there are to be.
type pool struct {
	size        string
	least, most int // most is 0 without an autoscaler
}

func (p pool) String() string {
	if p.most > 0 {
		return fmt.Sprintf("%d-%d", p.least, p.most)
	}
	return fmt.Sprint(p.least)
}

// poolOf is the pool of a file. What it does not say is as much as the workers have room in, and
// one more, so that they can be replaced.
func poolOf(c *config.Cluster) (pool, error) {
	var aks config.AKS
	if c.Azure.AKS != nil {
		aks = *c.Azure.AKS
	}
	p := pool{cmp.Or(aks.VMSize, config.DefaultVMSize), aks.Nodes, aks.MaxNodes}
	switch {
	case p.least == 0 && p.most > 0:
		p.least = 1
	case p.least == 0 && p.size != config.DefaultVMSize:
		return p, invalid("azure.aks.nodes is missing: of a vm_size other than %s navvy does not know how many workers a node has room for", config.DefaultVMSize)
	case p.least == 0:
		n, err := nodesFor(c)
		if err != nil {
			return p, err
		}
		p.least = n
	}
	if p.least < 1 || max(p.least, p.most) > mostNodes || p.most != 0 && p.most < p.least {
		return p, invalid("azure.aks: there would be %s nodes: want 1 to %d", p, mostNodes)
	}
	return p, nil
}

func nodesFor(c *config.Cluster) (int, error) {
	w := c.Workers
	if _, _, err := size(w); err != nil {
		return 0, err
	}
	cpus, memory := podSize(c)
	each := min(nodeCPUs/max(cpus, 1), nodeMemory/max(memory, 1), nodePods)
	if each == 0 {
		return 0, invalid("workers.cpus is %q and workers.memory %q: a node of %s has no room for such a worker: set azure.aks.vm_size, and nodes", w.CPUs, w.Memory, config.DefaultVMSize)
	}
	return (w.Count + 1 + int(each) - 1) / int(each), nil
}

// The size of a worker of which the file does not say it.
const (
	defaultCPUs   = "1"
	defaultMemory = "1.5G"
)

// podSize is that of a worker that size has found right, and of what is beside it, in
// thousandths of cores and bytes.
func podSize(c *config.Cluster) (cpus, memory int64) {
	cpus, _ = quantity.ParseCPUs(cmp.Or(c.Workers.CPUs, defaultCPUs))
	memory, _ = quantity.ParseSize(cmp.Or(c.Workers.Memory, defaultMemory))
	if watched(c) {
		cpus, memory = cpus+collectorPodCPUs, memory+collectorPodMemory
	}
	return cpus, memory
}

// aks compiles the AKS cluster, and what the workers have on it.
func (k *compilation) aks() error {
	p, err := poolOf(k.c)
	if err != nil {
		return err
	}
	name := k.names.aks()
	workspace, collection := k.collection()
	k.add(kindAKS, name, "providers/"+typeAKS+"/"+name, "aks", driver.Properties{"vm_size": p.size, "nodes": p.String(), "workspace": workspace}, map[string]any{
		"name": name, "nodeGroup": k.names.nodeGroup(), "size": p.size, "workspace": workspace, "collection": collection,
		"count": p.least, "autoscale": p.most > 0, "least": p.least, "most": max(p.most, p.least),
	})
	g := &kubernetes.Guests{Beside: k.collectorPod()}
	late := map[string]lateOf{}
	k.brokerSecret(g, late)
	for i, m := range k.mounts {
		k.shareVolume(g, late, i, m)
	}
	if len(k.content) > 0 {
		g.Contents = hash(strings.Join(k.content, "\n"))
	}
	if k.c.Queue.URL == nil {
		g.Args = []string{"--must-exist"}
	}
	all, err := kubernetes.CompileGuests(k.guest(), k.salt, &kubernetes.Options{Getenv: k.d.o.Getenv}, g)
	if err != nil {
		return fmt.Errorf("azure: %w", err)
	}
	for _, r := range all {
		k.resources = append(k.resources, driver.Resource{ID: r.ID, Properties: r.Properties, Spec: &guestSpec{
			place: guestPlace{k.group, name, namespaceOf(k.c.Name)}, resource: r, late: late[r.Name],
		}})
	}
	return nil
}

// collection is the rule by which the AKS cluster sends what workers print to the workspace: since
// Azure has retired the add-on's use of the workspace's key, the add-on alone sends nothing.
func (k *compilation) collection() (workspace, name string) {
	if !watched(k.c) {
		return "", ""
	}
	workspace, name = k.names.workspace(), k.names.collection()
	k.add(kindCollection, name, "providers/"+typeCollection+"/"+name, "collection",
		driver.Properties{"workspace": workspace}, map[string]any{"name": name, "workspace": workspace})
	return workspace, name
}

// dissociate removes what makes an AKS cluster use a collection: a rule in use is not removed.
func (d *Driver) dissociate(ctx context.Context, what string, h *handle) error {
	id := d.id(h.group, "providers/"+typeAKS+"/"+h.names.aks()+"/providers/"+typeAssociation+"/ContainerInsightsExtension")
	err := d.call(ctx, http.MethodDelete, id, versions[typeAssociation], nil, nil)
	if isNotFound(err) {
		return nil
	}
	return d.failed(what, "remove its association with the AKS cluster", err)
}

// namespaceOf is that of the workers on the AKS cluster.
func namespaceOf(cluster string) string { return "navvy-" + cluster }

// guest is the file as the workers on the AKS cluster have it: they find the queues and the files
// there already.
func (k *compilation) guest() *config.Cluster {
	c := *k.c
	c.Provider, c.Azure, c.Share, c.Monitor = config.ProviderKubernetes, nil, nil, config.Monitor{}
	c.Workers.Environment = maps.Clone(k.c.Workers.Environment)
	for _, v := range k.traced("") { // the instance is the name of the pod
		if c.Workers.Environment == nil {
			c.Workers.Environment = map[string]config.Value{}
		}
		c.Workers.Environment[v.Name] = config.Value{Text: v.Value}
	}
	c.Kubernetes = &config.Kubernetes{Namespace: namespaceOf(c.Name)}
	c.Workers.CPUs, c.Workers.Memory = cmp.Or(c.Workers.CPUs, defaultCPUs), cmp.Or(c.Workers.Memory, defaultMemory)
	c.Queue.Lease, c.Queue.Attempts = config.Duration(lease(k.c)), attempts(k.c)
	if c.Queue.URL == nil {
		scheme := map[config.QueueKind]string{config.QueueServiceBus: "azservicebus:///", config.QueueStorage: "azqueue:///"}[c.Queue.Kind]
		c.Queue.URL = &config.Value{Text: scheme}
	}
	return &c
}

// lateOf finds out what a Secret is given when it is put; nil for nothing.
type lateOf func(context.Context) (kubernetes.Late, error)

// secretKeys has what the queues and insights are reached with.
const secretKeys = "keys"

func (k *compilation) brokerSecret(g *kubernetes.Guests, late map[string]lateOf) {
	_, kind, name := k.broker()
	s := kubernetes.GuestSecret{Name: secretKeys, Environment: true}
	switch kind {
	case typeNamespace:
		s.Late = []string{varBus}
	case typeAccount:
		s.Late = []string{varStorage}
	}
	insights := ""
	if watched(k.c) {
		s.Late, insights = append(s.Late, varInsights), k.names.insights()
	}
	if len(s.Late) == 0 {
		return
	}
	g.Secrets = append(g.Secrets, s)
	d, group := k.d, k.group
	late[kubernetes.GuestSecretName(k.c.Name, s.Name)] = func(ctx context.Context) (kubernetes.Late, error) {
		return d.workerKeys(ctx, group, kind, name, insights)
	}
}

// Keys of a Secret by which the driver of Azure Files mounts a share.
const (
	keyAccount = "azurestorageaccountname"
	keyKey     = "azurestorageaccountkey"
)

// shareVolume mounts a file share, as the driver of Azure Files has it without a PersistentVolume.
func (k *compilation) shareVolume(g *kubernetes.Guests, late map[string]lateOf, i int, m mount) {
	s := kubernetes.GuestSecret{Name: fmt.Sprintf("share-%d", i), Data: map[string]string{keyAccount: m.Account}}
	name := kubernetes.GuestSecretName(k.c.Name, s.Name)
	if theirs, is := k.keys[m.Name]; is {
		s.Data[keyKey] = theirs
	} else {
		s.Late = []string{keyKey}
		d, group, account := k.d, k.group, m.Account
		late[name] = func(ctx context.Context) (kubernetes.Late, error) {
			key, err := d.accountKey(ctx, group, account)
			return kubernetes.Late{Values: map[string]string{keyKey: key}}, err
		}
	}
	g.Secrets = append(g.Secrets, s)
	g.Volumes = append(g.Volumes, kubernetes.GuestVolume{At: m.Path, Source: map[string]any{"csi": map[string]any{
		"driver": "file.csi.azure.com", "readOnly": true,
		"volumeAttributes": map[string]any{"secretName": name, "shareName": m.Share, "mountOptions": "dir_mode=0555,file_mode=0555,cache=strict,actimeo=30,nosharesock"},
	}}})
}

// keepNodes has an AKS cluster keep what Azure does not change, or has changed itself: the size
// of nodes, and how many its autoscaler has made.
func keepNodes(r *driver.Resource, s *spec, now *armresources.GenericResource) error {
	is := properties(kindAKS, now)
	if is["vm_size"] != "" && is["vm_size"] != r.Properties["vm_size"] {
		return conflict("%s: its nodes are of the size %s, and azure.aks.vm_size says %s, which Azure does not change: destroy the cluster first, or set azure.aks.vm_size back", r.ID, is["vm_size"], r.Properties["vm_size"])
	}
	count, _ := field(now, "agentPoolProfiles", 0, "count").(float64)
	least, _ := s.recipe.parameters["least"].(int)
	most, _ := s.recipe.parameters["most"].(int)
	s.recipe.parameters["count"] = min(max(int(count), least), most)
	return nil
}

func aksProperties(r *armresources.GenericResource, p driver.Properties) {
	nodes := field(r, "agentPoolProfiles", 0)
	p["vm_size"], p["nodes"] = text(at(nodes, "vmSize")), text(at(nodes, "count"))
	agent := field(r, "addonProfiles", "omsagent")
	p["workspace"] = ""
	if id := text(at(agent, "config", "logAnalyticsWorkspaceResourceID")); at(agent, "enabled") == true {
		p["workspace"] = id[strings.LastIndex(id, "/")+1:]
	}
	if at(nodes, "enableAutoScaling") == true {
		p["nodes"] = text(at(nodes, "minCount")) + "-" + text(at(nodes, "maxCount"))
	}
}
