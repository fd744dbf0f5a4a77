package azure

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// spec is what is needed to make a resource of the plan.
type spec struct {
	group  string // the resource group
	names  names
	path   string // of the resource, behind the group's
	recipe recipe
	tags   map[string]string
	salt   []byte
	upload *tree           // of a share
	queues string          // the path of the namespace or account that a worker has keys of
	mark   *config.Cluster // of the mark
}

// compilation is a file that becomes resources.
type compilation struct {
	d         *Driver
	c         *config.Cluster
	salt      []byte
	group     string
	names     names
	tags      map[string]string
	resources []driver.Resource
	mounts    []mount
	content   []string          // digests of what was uploaded
	keys      map[string]string // of accounts that are not ours, by mount
}

// Compile implements driver.Driver.
func (d *Driver) Compile(ctx context.Context, c *config.Cluster, salt []byte) ([]driver.Resource, error) {
	if err := d.check(c); err != nil {
		return nil, err
	}
	group := groupName(c)
	k := &compilation{d: d, c: c, salt: salt, group: group, names: d.names(c.Name, group), keys: map[string]string{}}
	k.tags = map[string]string{
		tagCluster: c.Name, tagQueue: string(c.Queue.Kind), tagService: string(c.Service.Kind),
		tagRequest: c.Queue.Request, tagResponse: c.Queue.Response,
	}
	k.mark()
	k.monitor()
	if err := k.queues(); err != nil {
		return nil, err
	}
	for i := range c.Share {
		if err := k.share(ctx, fmt.Sprintf("share[%d]", i), c.Share[i]); err != nil {
			return nil, err
		}
	}
	workers := k.workers
	if onAKS(c) {
		workers = k.aks
	}
	if err := workers(); err != nil {
		return nil, err
	}
	return k.linked(), nil
}

// linked gives each resource its needs.
func (k *compilation) linked() []driver.Resource {
	ids := make([]driver.ID, len(k.resources))
	for i := range k.resources {
		ids[i] = k.resources[i].ID
	}
	for i := range k.resources {
		k.resources[i].Needs = link(ids, k.resources[i].ID)
	}
	return k.resources
}

func (k *compilation) add(kind, name, path, template string, properties driver.Properties, parameters map[string]any) *spec {
	tags := maps.Clone(k.tags)
	tags[tagKind], tags[tagName] = kind, name
	s := &spec{group: k.group, names: k.names, path: path, tags: tags, salt: k.salt, recipe: recipe{template, parameters}}
	if _, tagged := types[kind]; tagged {
		properties["tags"] = contractTags(tags)
		parameters["location"], parameters["tags"] = k.c.Azure.Location, tags
	}
	k.resources = append(k.resources, driver.Resource{ID: driver.ID{Kind: kind, Name: name}, Properties: properties, Spec: s})
	return s
}

// contractTags are the tags of CloudWorker, for people.
func contractTags(tags map[string]string) string {
	var all []string
	for _, name := range []string{tagQueue, tagRequest, tagResponse, tagService} {
		if tags[name] != "" {
			all = append(all, name+"="+tags[name])
		}
	}
	return strings.Join(all, " ")
}

// mark is the resource group with its tags, and the deployment that has the file.
func (k *compilation) mark() {
	text := config.Encode(anywhere(k.c))
	sum := sha256.Sum256(text)
	s := k.add(driver.KindCluster, k.c.Name, "", "mark", driver.Properties{
		"group": k.group, "location": k.c.Azure.Location, "file": hex.EncodeToString(sum[:8]),
	}, map[string]any{"config": string(text)})
	s.mark = k.c
}

// anywhere is a file whose paths begin at the root: who scales the cluster has what is kept, and
// not the directory that the file was in.
func anywhere(c *config.Cluster) *config.Cluster {
	root := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		if whole, err := filepath.Abs(filepath.Join(c.Dir, path)); err == nil {
			return whole
		}
		return path
	}
	value := func(v *config.Value) *config.Value {
		if v == nil || v.File == "" {
			return v
		}
		return &config.Value{File: root(v.File)}
	}
	own := *c
	own.Queue.URL = value(c.Queue.URL)
	own.Share = slices.Clone(c.Share)
	for i := range own.Share {
		own.Share[i].From = root(own.Share[i].From)
		if f := own.Share[i].Files; f != nil {
			own.Share[i].Files = &config.AzureFiles{Account: f.Account, Share: f.Share, Key: value(f.Key)}
		}
	}
	own.Workers.Environment = maps.Clone(c.Workers.Environment)
	for name, v := range own.Workers.Environment {
		own.Workers.Environment[name] = *value(&v)
	}
	return &own
}

// keptDays is how long a workspace keeps what was written to it, unless somebody changes it.
const keptDays = 30

func (k *compilation) monitor() {
	if !watched(k.c) {
		return
	}
	workspace, insights := k.names.workspace(), k.names.insights()
	k.add(kindWorkspace, workspace, "providers/"+typeWorkspace+"/"+workspace, "workspace",
		driver.Properties{"days": fmt.Sprint(keptDays)}, map[string]any{"name": workspace, "days": keptDays})
	k.add(kindInsights, insights, "providers/"+typeInsights+"/"+insights, "insights",
		driver.Properties{"workspace": workspace}, map[string]any{"name": insights, "workspace": workspace})
}

func (k *compilation) queues() error {
	if k.c.Queue.URL != nil {
		return nil
	}
	q := k.c.Queue
	switch q.Kind {
	case config.QueueServiceBus:
		sku := cmp.Or(q.SKU, "Standard")
		name := k.names.namespace()
		path := "providers/" + typeNamespace + "/" + name
		k.add(kindNamespace, name, path, "namespace", driver.Properties{"sku": sku, "tls": "1.2"},
			map[string]any{"name": name, "sku": sku, "rule": workerRule})
		k.busQueue(path, name, q.Request, attempts(k.c))
		k.busQueue(path, name, q.Response, mostDeliveries)
	case config.QueueStorage:
		sku := cmp.Or(q.SKU, "Standard_LRS")
		name := k.names.account()
		path := "providers/" + typeAccount + "/" + name
		k.add(kindAccount, name, path, "account", driver.Properties{"sku": sku, "tls": "TLS1_2"}, map[string]any{"name": name, "sku": sku})
		for _, queue := range []string{q.Request, q.Response} {
			k.add(kindStored, queue, path+"/queueServices/default/queues/"+queue, "accountqueue",
				driver.Properties{"dead": queue + deadSuffix}, map[string]any{"account": name, "queue": queue, "dead": queue + deadSuffix})
		}
	case config.QueueNavvy, config.QueueNATS, config.QueueRabbitMQ, config.QueueRedis: // others make them
	}
	return nil
}

const (
	// deadSuffix is behind the name of a storage queue in that of its dead letters.
	deadSuffix = "-dead"
	// mostDeliveries is how often an answer may come before Service Bus takes it for dead: who
	// looks for his own gives those of others back.
	mostDeliveries = 1000
)

func (k *compilation) busQueue(path, namespace, queue string, deliveries int) {
	lease := lease(k.c)
	k.add(kindQueue, queue, path+"/queues/"+queue, "busqueue", driver.Properties{
		"lease": span(lease), "deliveries": fmt.Sprint(deliveries), "dead-lettering": "true",
	}, map[string]any{"namespace": namespace, "queue": queue, "lock": isoDuration(lease), "deliveries": deliveries})
}

// span writes a time as the file does.
func span(d time.Duration) string { return config.Duration(d).String() }

func lease(c *config.Cluster) time.Duration { return cmp.Or(time.Duration(c.Queue.Lease), time.Minute) }
func attempts(c *config.Cluster) int        { return cmp.Or(c.Queue.Attempts, 5) }

// isoDuration writes whole seconds as ISO 8601 does, and Azure: PT1M, PT1M30S.
func isoDuration(d time.Duration) string {
	minutes, seconds := int(d/time.Minute), int(d%time.Minute/time.Second)
	text := "PT"
	if minutes > 0 {
		text += fmt.Sprintf("%dM", minutes)
	}
	if seconds > 0 || minutes == 0 {
		text += fmt.Sprintf("%dS", seconds)
	}
	return text
}

// shareQuota is how large a file share may grow, in GiB.
const shareQuota = 1024

// mount is a file share in a worker.
type mount struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Share   string `json:"share"`
	Account string `json:"account"`
}

func (k *compilation) share(ctx context.Context, key string, s config.Share) error {
	if s.Files != nil {
		return k.theirs(key, s)
	}
	t, err := readTree(ctx, k.c.Dir, s.From)
	if err != nil {
		return fmt.Errorf("azure: %s.from: %w", key, err)
	}
	account, name := k.names.support(), k.names.share(s.At)
	k.mounts = append(k.mounts, mount{Name: name, Path: s.At, Share: name, Account: account})
	k.content = append(k.content, s.At+" "+t.digest)
	spec := k.add(kindShare, s.At, "providers/"+typeAccount+"/"+account+"/fileServices/default/shares/"+name, "share",
		driver.Properties{"content": t.digest, "files": fmt.Sprint(len(t.files)), "share": name},
		map[string]any{"account": account, "share": name, "quota": shareQuota})
	spec.upload = t
	return nil
}

// theirs mounts a file share that is there already: it is neither made nor looked at.
func (k *compilation) theirs(key string, s config.Share) error {
	if s.Files.Key == nil {
		return invalid("%s.files.key is missing", key)
	}
	secret, err := s.Files.Key.Resolve(k.d.o.Getenv, k.c.Dir)
	if err != nil {
		return fmt.Errorf("azure: %s.files.key: %w", key, err)
	}
	name := k.names.share(s.At)
	k.mounts = append(k.mounts, mount{Name: name, Path: s.At, Share: s.Files.Share, Account: s.Files.Account})
	k.keys[name] = secret
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// file is the digest of the file, as the mark's tag has it.
func (s *spec) file() string {
	text, _ := s.recipe.parameters["config"].(string)
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
