package azure

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
)

// Put implements driver.Driver.
func (d *Driver) Put(ctx context.Context, cluster string, r *driver.Resource) error {
	if g, is := r.Spec.(*guestSpec); is {
		return d.putGuest(ctx, cluster, r, g)
	}
	s, ok := r.Spec.(*spec)
	if !ok {
		return fmt.Errorf("azure: %s: it was not compiled here: %w", r.ID, navvy.ErrInvalid)
	}
	what := r.String()
	if r.Kind == driver.KindCluster {
		return d.putMark(ctx, cluster, what, s)
	}
	if err := d.prepare(ctx, cluster, r, s); err != nil {
		return err
	}
	if err := d.bind(ctx, s); err != nil {
		return d.failed(what, "look at what its queues are in", err)
	}
	if err := d.deploy(ctx, s.deployment(what, r.ID)); err != nil {
		return err
	}
	if r.Kind == kindAKS {
		return d.awaitAKS(ctx, what, guestPlace{s.group, r.Name, namespaceOf(cluster)})
	}
	if s.upload == nil {
		return nil
	}
	return d.upload(ctx, what, s)
}

// bind has a worker say of which namespace or account its keys are.
func (d *Driver) bind(ctx context.Context, s *spec) error {
	if s.queues == "" {
		return nil
	}
	now, err := d.resources.GetByID(ctx, d.id(s.group, s.queues), versionOf(s.queues), nil)
	if err != nil {
		return err
	}
	if when := born(&now.GenericResource); when != "" {
		s.tags[tagQueues] = when
	}
	return nil
}

func (s *spec) deployment(what string, id driver.ID) *deployment {
	return &deployment{what: what, group: s.group, name: s.names.deployment(id), recipe: s.recipe, tags: s.tags, salt: s.salt}
}

// prepare looks at what has the name already. What is not the cluster's is left alone, and a
// container group that Azure cannot change is removed.
func (d *Driver) prepare(ctx context.Context, cluster string, r *driver.Resource, s *spec) error {
	kind, tagged := types[r.Kind]
	if !tagged {
		return d.ownChild(ctx, cluster, r, s)
	}
	id, version := d.id(s.group, s.path), versions[kind]
	now, err := d.resources.GetByID(ctx, id, version, nil)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return d.failed(r.String(), "look at it", err)
	}
	if tagOf(now.Tags, tagCluster) != cluster {
		return exists("%s: there is a %s of that name in the resource group %s, without the tag %s=%s: remove it, or give the cluster another name", r.ID, kind, s.group, tagCluster, cluster)
	}
	if r.Kind == kindAKS {
		return keepNodes(r, s, &now.GenericResource)
	}
	if r.Kind == kindWorker && unchangeable(r.Properties, properties(kindWorker, &now.GenericResource)) {
		d.o.Logger.Info("a container group is made anew, as Azure does not change what its containers have", "resource", r.String())
		return d.gone(ctx, r.String(), id, version)
	}
	return nil
}

// unchangeable tells whether something is to be different that Azure cannot change in a
// container group.
func unchangeable(want, is driver.Properties) bool {
	for _, key := range []string{"cpus", "memory", "insights", "collector"} { // how many containers, and what they have; where their output goes
		if want[key] != is[key] {
			return true
		}
	}
	return false
}

// ownChild refuses a queue or share that is there and that no deployment of the cluster made.
func (d *Driver) ownChild(ctx context.Context, cluster string, r *driver.Resource, s *spec) error {
	record, err := d.deployments.Get(ctx, s.group, s.names.deployment(r.ID), nil)
	if err == nil && tagOf(record.Tags, tagCluster) == cluster {
		return nil
	}
	if err != nil && !isNotFound(err) {
		return d.failed(r.String(), "look for its deployment", err)
	}
	var there child
	err = d.call(ctx, "GET", d.id(s.group, s.path), versionOf(s.path), nil, &there)
	switch {
	case isNotFound(err):
		return nil
	case err != nil:
		return d.failed(r.String(), "look at it", err)
	}
	return exists("%s: it is there, and no deployment of the cluster made it: remove it, or give it another name in the file", r.ID)
}

// putMark makes the resource group, if the lock has not, and writes down what the cluster
// is. The tag comes last: without it there is no cluster.
func (d *Driver) putMark(ctx context.Context, cluster, what string, s *spec) error {
	if found, err := d.find(ctx, cluster); err != nil {
		return err
	} else if found != nil && !equalFold(str(found.Name), s.group) {
		return elsewhere(cluster, str(found.Name), s.group)
	}
	group, err := d.claimGroup(ctx, cluster, s.group, d.o.Location)
	if err != nil {
		return err
	}
	if !equalFold(normal(str(group.Location)), s.mark.Azure.Location) {
		return conflict("%s: its resource group %s is in %s, and azure.location says %s: destroy the cluster first, or set azure.location back", what, s.group, str(group.Location), s.mark.Azure.Location)
	}
	if err := d.support(ctx, cluster, s.group, s.mark.Azure.Location); err != nil {
		return err
	}
	id := driver.ID{Kind: driver.KindCluster, Name: cluster}
	if err := d.deploy(ctx, s.deployment(what, id)); err != nil {
		return err
	}
	tags := maps.Clone(s.tags)
	delete(tags, tagKind)
	delete(tags, tagName)
	tags[tagSalt], tags[tagFile], tags[tagLock] = hex.EncodeToString(s.salt), s.file(), cluster
	return d.tagGroup(ctx, what, s.group, tags)
}

// elsewhere refuses to make a cluster in another resource group than it is in: with both
// tagged nobody could tell any more which is its.
func elsewhere(cluster, is, want string) error {
	return conflict("cluster %s: it is in the resource group %s, and by its file it is to be in %s: destroy it first, or set azure.resource_group back", cluster, is, want)
}

// claimGroup finds a resource group that is the cluster's, or makes it. One without our tags
// is somebody else's.
func (d *Driver) claimGroup(ctx context.Context, cluster, group, location string) (*armresources.ResourceGroup, error) {
	what := "resource group " + group
	now, err := d.groups.Get(ctx, group, nil)
	switch {
	case err == nil:
		if !ours(&now.ResourceGroup, cluster) {
			return nil, exists("%s: it is there, without the tag %s=%s: set azure.resource_group to a name that is free, or remove the group", what, tagCluster, cluster)
		}
		return &now.ResourceGroup, nil
	case !isNotFound(err):
		return nil, d.failed(what, "look at it", err)
	case location == "":
		return nil, fmt.Errorf("azure: %s: there is none, and nothing says where to make it: give the cluster's file: %w", what, navvy.ErrNotFound)
	}
	made, err := d.groups.CreateOrUpdate(ctx, group, armresources.ResourceGroup{
		Location: new(location), Tags: map[string]*string{tagLock: new(cluster), tagMade: new(cluster)},
	}, nil)
	if err != nil {
		return nil, d.failed(what, "make it", err)
	}
	return &made.ResourceGroup, nil
}

// ours tells whether a resource group is a cluster's: by its mark, or since it was made for
// the lock.
func ours(g *armresources.ResourceGroup, cluster string) bool {
	if mark := tagOf(g.Tags, tagCluster); mark != "" {
		return mark == cluster
	}
	return tagOf(g.Tags, tagLock) == cluster
}

// tagGroup sets tags of a resource group; one that is empty is removed. Those of others stay.
func (d *Driver) tagGroup(ctx context.Context, what, group string, tags map[string]string) error {
	now, err := d.groups.Get(ctx, group, nil)
	if err != nil {
		return d.failed(what, "look at its tags", err)
	}
	all := map[string]*string{}
	for name, value := range now.Tags {
		if _, is := tags[name]; !is {
			all[name] = value
		}
	}
	for name, value := range tags {
		if value != "" {
			all[name] = new(value)
		}
	}
	_, err = d.groups.Update(ctx, group, armresources.ResourceGroupPatchable{Tags: all}, nil)
	return d.failed(what, "set its tags", err)
}

// support makes the storage account that has the lock and the file shares.
func (d *Driver) support(ctx context.Context, cluster, group, location string) error {
	n := d.names(cluster, group)
	what := "storage account " + n.support()
	now, err := d.resources.GetByID(ctx, d.id(group, "providers/"+typeAccount+"/"+n.support()), versions[typeAccount], nil)
	if err != nil && !isNotFound(err) {
		return d.failed(what, "look at it", err)
	}
	if err == nil {
		if tagOf(now.Tags, tagCluster) != cluster {
			return exists("%s: it is there, without the tag %s=%s: remove it", what, tagCluster, cluster)
		}
		if state, _ := field(&now.GenericResource, "provisioningState").(string); state == "Succeeded" {
			err := d.call(ctx, "GET", d.lockPath(n, group), versions[typeAccount], nil, nil)
			if err == nil || !isNotFound(err) {
				return d.failed(what, "look at its lock", err)
			}
		}
	}
	tags := map[string]string{tagCluster: cluster, tagKind: kindSupport, tagName: n.support()}
	return d.deploy(ctx, &deployment{what: what, group: group, name: n.lockDeployment(), tags: tags, recipe: recipe{"support", map[string]any{
		"account": n.support(), "container": lockContainer, "location": location, "tags": tags,
	}}})
}

func (d *Driver) lockPath(n names, group string) string {
	return d.id(group, "providers/"+typeAccount+"/"+n.support()+"/blobServices/default/containers/"+lockContainer)
}
