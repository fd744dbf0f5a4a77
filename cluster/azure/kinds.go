package azure

import (
	"slices"

	"github.com/navvy-run/navvy/cluster/driver"
)

// Kinds of the resources of a plan, beside the mark.
const (
	kindWorkspace = "workspace" // of Log Analytics, in which insights keep what they know
	kindInsights  = "insights"  // Application Insights
	kindNamespace = "namespace" // of Service Bus
	kindAccount   = "account"   // a storage account for queues
	kindQueue     = "queue"     // of Service Bus
	// kindStored is a queue of a storage account: one that is to be of the other sort is
	// another resource, as it is made elsewhere.
	kindStored  = "storage-queue"
	kindShare   = "share"  // a file share with what was uploaded
	kindWorker  = "worker" // a container group
	kindSupport = "support"
	kindAKS     = "aks" // an AKS cluster
	// kindCollection is the rule by which an AKS cluster sends to the workspace.
	kindCollection = "collection"
	// What workers have on an AKS cluster.
	kindAccountOf  = "serviceaccount"
	kindSecret     = "secret"
	kindDeployment = "deployment"
)

// Types of Azure's resources.
const (
	typeWorkspace = "Microsoft.OperationalInsights/workspaces"
	typeInsights  = "Microsoft.Insights/components"
	typeNamespace = "Microsoft.ServiceBus/namespaces"
	typeAccount   = "Microsoft.Storage/storageAccounts"
	typeGroup     = "Microsoft.ContainerInstance/containerGroups"
	typeAKS       = "Microsoft.ContainerService/managedClusters"
	// Of an association with a collection, which is in an AKS cluster.
	typeCollection  = "Microsoft.Insights/dataCollectionRules"
	typeAssociation = "Microsoft.Insights/dataCollectionRuleAssociations"
)

// versions are those of Azure's interface by which we ask and remove: the templates have the
// same. A version is there for ever once it is, so that they need not follow.
var versions = map[string]string{
	typeWorkspace: "2022-10-01",
	typeInsights:  "2020-02-02",
	typeNamespace: "2024-01-01",
	typeAccount:   "2023-05-01",
	typeGroup:     "2023-05-01",
	typeAKS:       "2024-09-01",

	typeCollection:  "2022-06-01",
	typeAssociation: "2022-06-01",
}

// types are those of the kinds that have resources with tags.
var types = map[string]string{
	kindWorkspace: typeWorkspace,
	kindInsights:  typeInsights,
	kindNamespace: typeNamespace,
	kindAccount:   typeAccount,
	kindWorker:    typeGroup,
	kindAKS:       typeAKS,

	kindCollection: typeCollection,
}

// rank orders the kinds: each needs what comes before it.
var rank = []string{driver.KindCluster, kindWorkspace, kindNamespace, kindAccount, kindInsights, kindQueue, kindStored, kindShare, kindWorker, kindCollection, kindAKS, kindAccountOf, kindSecret, kindDeployment}

// needs are the kinds of what a resource of a kind needs.
func needs(kind string) []string {
	switch kind {
	case driver.KindCluster:
		return nil
	case kindInsights, kindCollection:
		return []string{kindWorkspace}
	case kindAKS:
		return []string{kindCollection}
	case kindQueue:
		return []string{kindNamespace}
	case kindStored:
		return []string{kindAccount}
	case kindWorker:
		return []string{kindInsights, kindQueue, kindStored, kindShare}
	case kindAccountOf:
		return []string{kindAKS}
	case kindSecret:
		return []string{kindAKS, kindInsights, kindQueue, kindStored, kindShare}
	case kindDeployment:
		return []string{kindAKS, kindAccountOf, kindSecret, kindQueue, kindStored, kindShare}
	default:
		return []string{driver.KindCluster}
	}
}

// link gives each of the IDs what it needs of the others, and the mark if there is nothing.
func link(all []driver.ID, of driver.ID) []driver.ID {
	var found []driver.ID
	wanted := needs(of.Kind)
	for _, id := range all {
		if slices.Contains(wanted, id.Kind) {
			found = append(found, id)
		}
	}
	if len(found) > 0 || of.Kind == driver.KindCluster {
		return found
	}
	for _, id := range all {
		if id.Kind == driver.KindCluster {
			return []driver.ID{id}
		}
	}
	return nil
}
