package azure

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"regexp"
	"strings"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// Tags of what a cluster consists of. The last four are those of CloudWorker.
const (
	tagCluster  = "navvy-cluster" // its name: the mark
	tagKind     = "navvy-kind"    // of the resource of the plan
	tagName     = "navvy-name"
	tagDigest   = "navvy-digest"  // of a deployment: of its template and parameters
	tagSecrets  = "navvy-secrets" // of a worker: of its secrets, which nobody can read
	tagQueues   = "navvy-queues"  // of a worker: of which namespace or account it has keys, see born
	tagSalt     = "navvy-salt"    // of a resource group
	tagFile     = "navvy-file"    // of a resource group: of the file that was applied
	tagLock     = "navvy-lock"    // of a resource group: whose cluster's lock it has, or may have
	tagMade     = "navvy-made"    // of a resource group that navvy made: for which cluster
	tagLabel    = "navvy-label-"  // of a worker: a label
	tagQueue    = "QueueType"
	tagRequest  = "RequestQueueName"
	tagResponse = "ResponseQueueName"
	tagService  = "Service"
)

// mostTag is how long a tag's value may be, in characters.
const mostTag = 256

// names are the names of what a cluster consists of. Those of storage accounts and Service
// Bus namespaces are the whole world's: they have a hash of subscription and group in them.
type names struct{ cluster, short, hash string }

func (d *Driver) names(cluster, group string) names {
	whole := strings.ToLower(d.subscription + "/" + group + "/" + cluster)
	return names{cluster: cluster, short: short(cluster, 30), hash: hash(whole)}
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:8])
}

var others = regexp.MustCompile(`[^a-z0-9]+`)

// short is what of a name can be in any name of Azure's: small letters and digits with
// single hyphens between. Names that differ can have one in common.
func short(name string, most int) string {
	s := others.ReplaceAllString(strings.ToLower(name), "-")
	s = strings.Trim(s[:min(len(s), most)], "-")
	if s == "" {
		return "x"
	}
	return s
}

// groupName is the name of a cluster's resource group.
func groupName(c *config.Cluster) string {
	if c.Azure.ResourceGroup != "" {
		return c.Azure.ResourceGroup
	}
	return "navvy-" + c.Name
}

func (n names) compact(suffix string) string {
	s := strings.ReplaceAll(n.short, "-", "")
	return "nvy" + s[:min(len(s), 12)] + n.hash + suffix
}

// support is the storage account of the lock and the file shares, account that of queues.
func (n names) support() string   { return n.compact("s") }
func (n names) account() string   { return n.compact("q") }
func (n names) namespace() string { return "navvy-" + n.short + "-" + n.hash }
func (n names) workspace() string { return "navvy-" + n.short }
func (n names) insights() string  { return "navvy-" + n.short }

// worker is the container group of the worker i, from 1.
func (n names) worker(i int) string { return fmt.Sprintf("navvy-%s-%s-%d", n.short, n.hash[:4], i) }

// aks is the AKS cluster, collection what it sends by, nodeGroup the resource group that Azure makes for its nodes.
func (n names) aks() string        { return "navvy-" + n.short + "-" + n.hash }
func (n names) collection() string { return n.aks() }
func (n names) nodeGroup() string  { return n.aks() + "-nodes" }

// share is the file share of what workers find at a path.
func (n names) share(at string) string { return "navvy-" + hash(at) }

// deployment is the deployment that makes a resource of the plan: it has its name, so that
// whoever makes it once more finds the one that is under way.
func (n names) deployment(id driver.ID) string {
	if id.Kind == driver.KindCluster {
		return "navvy-" + n.short + "-" + hash(n.cluster)
	}
	return fmt.Sprintf("navvy-%s-%s-%s", short(n.cluster, 24), id.Kind, hash(n.cluster+"/"+id.String()))
}

// lockDeployment makes the storage account that has the lock.
func (n names) lockDeployment() string {
	return n.deployment(driver.ID{Kind: "lock", Name: n.cluster})
}

// The container whose lease is the lock, and the rule by which workers use the queues.
const (
	lockContainer = "navvy-lock"
	workerRule    = "navvy-worker"
)

// rules are Azure's for names of groups and queues that people choose.
var (
	groupRule    = regexp.MustCompile(`^[-\w.()]{0,89}[-\w()]$`)
	busRule      = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,258}[A-Za-z0-9])?$`)
	accountRule  = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){2,57}$`)
	locationRule = regexp.MustCompile(`^[a-z0-9]+$`)
	imageRule    = regexp.MustCompile(`^[^\s]+$`)
	variableRule = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	labelRule    = regexp.MustCompile(`^[^<>%&\\?/]+$`)
)
