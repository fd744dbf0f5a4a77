package config

import (
	"cmp"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// The configuration of a cluster as CloudWorker's tools had it. Keys are matched in exactly
// their letters, as there.
type (
	olderCluster struct {
		// Name is ours: there a cluster had a number. Defaults to the name of the file.
		Name                   string          `json:"Name,omitempty"`
		SubScriptionID         string          `json:"SubScriptionId"`
		Location               string          `json:"Location,omitempty"`
		Service                string          `json:"Service,omitempty"`
		NodeCount              *int            `json:"NodeCount,omitempty"`
		NodeOptions            olderNode       `json:"NodeOptions,omitzero"`
		FileShares             []olderShare    `json:"FileShares,omitempty"`
		ServiceBusQueueOptions olderQueue      `json:"ServiceBusQueueOptions,omitzero"`
		EnvironmentVariables   []olderVariable `json:"EnvironmentVariables,omitempty"`
	}
	olderNode struct {
		CPUCount *int   `json:"CpuCount,omitempty"`
		MemInGB  *int   `json:"MemInGB,omitempty"`
		Image    string `json:"Image,omitempty"`
	}
	olderShare struct {
		Name               string `json:"Name,omitempty"` // of the volume, which nobody sees
		MountPath          string `json:"MountPath"`
		FileShareName      string `json:"FileShareName"`
		StorageAccountName string `json:"StorageAccountName"`
		StorageAccountKey  *Value `json:"StorageAccountKey"`
	}
	olderQueue struct {
		Sku           string `json:"Sku,omitempty"`
		SkuCapacity   *int   `json:"SkuCapacity,omitempty"`
		SizeInMB      *int   `json:"SizeInMB,omitempty"`
		LockDuration  string `json:"LockDuration,omitempty"`
		RequestQueue  string `json:"RequestQueue,omitempty"`
		ResponseQueue string `json:"ResponseQueue,omitempty"`
	}
	olderVariable struct {
		Name        string `json:"Name"`
		Value       *Value `json:"Value,omitempty"`
		SecureValue *Value `json:"SecureValue,omitempty"`
	}
)

// What holds there if a configuration does not say.
const (
	olderLocation    = "southeastasia"
	olderNodes       = 10
	olderConcurrency = 100
	olderMemory      = "1G"
	olderName        = "cloudworker"
)

// keysOf finds a key of ours at the top of a file, and one of CloudWorker's. What begins with
// a capital letter is one of theirs if nothing else tells.
func keysOf(root *yaml.Node) (ours, theirs *yaml.Node) {
	if root.Kind != yaml.MappingNode {
		return nil, nil
	}
	is := func(t reflect.Type, name string) bool {
		return slices.ContainsFunc(fieldsOf(t), func(f field) bool { return f.name == name })
	}
	var capital *yaml.Node
	for i := 0; i+1 < len(root.Content); i += 2 {
		key := root.Content[i]
		switch {
		case is(reflect.TypeFor[Cluster](), key.Value):
			ours = cmp.Or(ours, key)
		case is(reflect.TypeFor[olderCluster](), key.Value):
			theirs = cmp.Or(theirs, key)
		case key.Value != "" && key.Value[0] >= 'A' && key.Value[0] <= 'Z':
			capital = cmp.Or(capital, key)
		}
	}
	if ours == nil {
		theirs = cmp.Or(theirs, capital)
	}
	return ours, theirs
}

// translation makes a cluster of ours of one of CloudWorker's.
type translation struct {
	*decoder
	from olderCluster
	to   *Cluster
	// variables are those of the environment that are left, by their names in small letters.
	variables map[string]olderVariable
}

// cloudWorker reads a configuration of CloudWorker.
func (d *decoder) cloudWorker(root *yaml.Node, file string, c *Cluster) {
	t := &translation{decoder: d, to: c, variables: map[string]olderVariable{}}
	d.nulls, d.older = true, map[string]string{}
	d.section(root, reflect.ValueOf(&t.from).Elem(), "")
	if len(d.mistakes.List) > 0 {
		return
	}
	*c = Cluster{
		Version: Version, Name: cmp.Or(t.from.Name, nameOf(file)), Provider: ProviderAzure,
		Azure:   &Azure{Subscription: t.from.SubScriptionID, Location: cmp.Or(t.from.Location, olderLocation)},
		Monitor: Monitor{Kind: MonitorInsights},
	}
	t.same("name", "Name")
	t.same("azure.subscription", "SubScriptionId")
	t.same("azure.location", "Location")
	if c.Azure.Subscription == "" {
		t.no("SubScriptionId", "it is empty: fill in the id of your subscription, which az account show tells")
	}
	t.nodes()
	t.shares()
	t.queue()
	if t.environment(); len(d.mistakes.List) == 0 {
		t.service()
	}
}

// same notes that a key of ours is what one of theirs says.
func (t *translation) same(ours, theirs string) {
	t.older[ours] = theirs
	t.lines[ours] = t.lineOf(theirs)
}

// no refuses what a key of theirs says.
func (t *translation) no(theirs, format string, args ...any) {
	t.mistakes.add(t.lineOf(theirs), theirs, format, args...)
}

// nameOf makes the name of a cluster of that of a file.
func nameOf(file string) string {
	base := filepath.Base(file)
	base = strings.ToLower(strings.TrimSuffix(base, filepath.Ext(base)))
	name := strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(base, "-"), "-")
	if !clusterName.MatchString(name) {
		return olderName
	}
	return name
}

func (t *translation) nodes() {
	w, node := &t.to.Workers, t.from.NodeOptions
	w.Count, w.Concurrency, w.CPUs, w.Memory, w.Image = olderNodes, olderConcurrency, "1", olderMemory, node.Image
	if t.from.NodeCount != nil {
		w.Count = *t.from.NodeCount
	}
	if node.CPUCount != nil {
		w.CPUs = strconv.Itoa(*node.CPUCount)
	}
	if node.MemInGB != nil {
		w.Memory = strconv.Itoa(*node.MemInGB) + "G"
	}
	t.same("workers.count", "NodeCount")
	t.same("workers.cpus", "NodeOptions.CpuCount")
	t.same("workers.memory", "NodeOptions.MemInGB")
	t.same("workers.image", "NodeOptions.Image")
}

func (t *translation) shares() {
	for i, s := range t.from.FileShares {
		theirs, ours := "FileShares["+strconv.Itoa(i)+"]", "share["+strconv.Itoa(i)+"]"
		t.to.Share = append(t.to.Share, Share{
			Files: &AzureFiles{Account: s.StorageAccountName, Share: s.FileShareName, Key: s.StorageAccountKey}, At: s.MountPath,
		})
		for _, key := range []struct{ name, value string }{
			{"MountPath", s.MountPath}, {"FileShareName", s.FileShareName}, {"StorageAccountName", s.StorageAccountName},
		} {
			if key.value == "" {
				t.no(theirs+"."+key.name, "it is empty")
			}
		}
		switch key := s.StorageAccountKey; {
		case key == nil:
			t.no(theirs+".StorageAccountKey", "it is missing: write {\"env\": NAME} or {\"file\": PATH}")
		case key.Plain():
			t.no(theirs+".StorageAccountKey", "a secret is not written into this file: in place of the key write {\"env\": NAME} or {\"file\": PATH}")
		}
		t.same(ours+".at", theirs+".MountPath")
	}
}

func (t *translation) queue() {
	from, q := t.from.ServiceBusQueueOptions, &t.to.Queue
	*q = Queue{Kind: QueueServiceBus, Request: from.RequestQueue, Response: from.ResponseQueue, SKU: from.Sku}
	const section = "ServiceBusQueueOptions."
	t.same("queue.request", section+"RequestQueue")
	t.same("queue.response", section+"ResponseQueue")
	t.same("queue.sku", section+"Sku")
	t.same("queue.lease", section+"LockDuration")
	if from.SkuCapacity != nil && *from.SkuCapacity != 1 {
		t.no(section+"SkuCapacity", "navvy makes namespaces of one unit; take it out, or make the namespace yourself and name it in a file of navvy's own, as queue.url")
	}
	if from.SizeInMB != nil {
		t.no(section+"SizeInMB", "queues have the size that Azure gives them; take it out")
	}
	if from.LockDuration != "" {
		span, ok := isoSpan(from.LockDuration)
		if !ok {
			t.no(section+"LockDuration", "%q: want a time span such as PT1M", short(from.LockDuration))
		}
		q.Lease = Duration(span)
	}
}

var isoForm = regexp.MustCompile(`^P(?:(\d{1,4})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,6})S)?)?$`)

// isoSpan reads a time span of ISO 8601 of days, hours, minutes and seconds.
func isoSpan(text string) (time.Duration, bool) {
	m := isoForm.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	var span time.Duration
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		n, _ := strconv.Atoi(m[i+1]) // nothing is none
		span += time.Duration(n) * unit
	}
	return span, span > 0
}
