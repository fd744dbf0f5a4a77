package azure

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
)

// Remove implements driver.Driver.
func (d *Driver) Remove(ctx context.Context, cluster string, r *driver.Observed) error {
	if g, is := r.Handle.(*guestHandle); is {
		return d.removeGuest(ctx, cluster, r, g)
	}
	h, ok := r.Handle.(*handle)
	if !ok {
		return fmt.Errorf("azure: %s: it was not observed here: %w", r.ID, navvy.ErrInvalid)
	}
	if r.Kind == driver.KindCluster {
		return d.removeMark(ctx, cluster, h)
	}
	what, id := r.String(), d.id(h.group, h.path)
	kind, tagged := types[r.Kind]
	if !tagged {
		return d.removeChild(ctx, r, h)
	}
	now, err := d.resources.GetByID(ctx, id, versions[kind], nil)
	if isNotFound(err) {
		return d.forget(ctx, what, h.group, h.names.deployment(r.ID))
	}
	if err != nil {
		return d.failed(what, "look at it", err)
	}
	if tagOf(now.Tags, tagCluster) != cluster {
		return conflict("%s: it has lost its tag %s=%s, and is not removed: remove it yourself, or put the tag back", what, tagCluster, cluster)
	}
	if err := d.empty(ctx, what, r.Kind, id); err != nil {
		return err
	}
	if err := d.ready(ctx, cluster, r, h); err != nil {
		return err
	}
	if err := d.gone(ctx, what, id, versions[kind]); err != nil {
		return err
	}
	return d.forget(ctx, what, h.group, h.names.deployment(r.ID))
}

// ready does what has to be done before a resource can be removed.
func (d *Driver) ready(ctx context.Context, cluster string, r *driver.Observed, h *handle) error {
	switch r.Kind {
	case kindAKS:
		return d.othersOn(ctx, cluster, r.String(), guestPlace{h.group, r.Name, namespaceOf(cluster)})
	case kindCollection:
		return d.dissociate(ctx, r.String(), h)
	}
	return nil
}

// inside are the lists of what others may have put into something of ours.
var inside = map[string][]string{
	kindNamespace: {"/queues", "/topics"},
	kindAccount:   {"/queueServices/default/queues", "/fileServices/default/shares", "/blobServices/default/containers", "/tableServices/default/tables"},
	kindSupport:   {"/queueServices/default/queues", "/fileServices/default/shares", "/blobServices/default/containers", "/tableServices/default/tables"},
}

// empty refuses to remove what has something of others in it: what was ours there is gone.
func (d *Driver) empty(ctx context.Context, what, kind, id string) error {
	for _, list := range inside[kind] {
		all, err := d.children(ctx, id+list, versionOf(strings.TrimPrefix(id[strings.Index(id, "providers/"):], "/")))
		if err != nil {
			return d.failed(what, "list its "+list[strings.LastIndex(list, "/")+1:], err)
		}
		for _, c := range all {
			if kind == kindSupport && c.Name == lockContainer {
				continue
			}
			return conflict("%s: it has %s in it, which navvy did not make: remove that, or keep it elsewhere, and destroy again", what, strings.TrimPrefix(list, "/")+"/"+c.Name)
		}
	}
	return nil
}

// removeChild removes a queue with its dead letters, or a share with its files.
func (d *Driver) removeChild(ctx context.Context, r *driver.Observed, h *handle) error {
	paths := []string{h.path}
	if r.Kind == kindStored {
		paths = append(paths, h.path+deadSuffix)
	}
	for _, path := range paths {
		id, version := d.id(h.group, path), versionOf(path)
		err := d.call(ctx, http.MethodDelete, id, version, nil, nil)
		if err != nil && !isNotFound(err) {
			return d.failed(r.String(), "remove", err)
		}
		for {
			err := d.call(ctx, http.MethodGet, id, version, nil, nil)
			if isNotFound(err) {
				break
			}
			if err != nil {
				return d.failed(r.String(), "look whether it is gone", err)
			}
			if err := d.pause(ctx); err != nil {
				return fmt.Errorf("azure: %s: its removal goes on; run it again: %w", r.ID, err)
			}
		}
	}
	return d.forget(ctx, r.String(), h.group, h.names.deployment(r.ID))
}

// forget removes the record of a deployment. That it goes on removing is not waited for.
func (d *Driver) forget(ctx context.Context, what, group, name string) error {
	_, err := d.deployments.BeginDelete(ctx, group, name, nil)
	if isNotFound(err) || isActive(err) {
		return nil
	}
	return d.failed(what, "remove the record of its deployment", err)
}

// removeMark removes the resource group, if navvy made it and nothing of others is in it; else
// what is ours.
func (d *Driver) removeMark(ctx context.Context, cluster string, h *handle) error {
	what := "cluster " + cluster
	now, err := d.groups.Get(ctx, h.group, nil)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return d.failed(what, "look at its resource group", err)
	}
	if !ours(&now.ResourceGroup, cluster) {
		return nil // the mark is gone, and what is left is not ours
	}
	all, err := d.inGroup(ctx, h.group)
	if err != nil {
		return err
	}
	kept := 0
	for _, r := range all {
		switch {
		case tagOf(r.Tags, tagCluster) != cluster && !byAzure(r, h.names):
			kept++
		case tagOf(r.Tags, tagKind) != kindSupport && tagOf(r.Tags, tagCluster) == cluster:
			return conflict("%s: %s is still there: destroy again", what, str(r.ID))
		}
	}
	if err := d.removeSupport(ctx, what, cluster, h); err != nil {
		return err
	}
	made := tagOf(now.Tags, tagMade) == cluster
	if made && kept == 0 {
		return d.removeGroup(ctx, what, h.group)
	}
	d.o.Logger.Warn("the resource group stays, as others made it or have something in it", "group", h.group, "resources", kept)
	return d.leaveGroup(ctx, what, cluster, h, made)
}

// leaveGroup takes what is ours off a resource group. Whoever made one for the cluster gave it
// the tag that lets it be used, which stays.
func (d *Driver) leaveGroup(ctx context.Context, what, cluster string, h *handle, made bool) error {
	for _, name := range []string{h.names.lockDeployment(), h.names.deployment(driver.ID{Kind: driver.KindCluster, Name: cluster})} {
		if err := d.forget(ctx, what, h.group, name); err != nil {
			return err
		}
	}
	tags := map[string]string{}
	for _, name := range []string{tagCluster, tagSalt, tagFile, tagMade, tagQueue, tagRequest, tagResponse, tagService} {
		tags[name] = ""
	}
	if made {
		tags[tagLock] = ""
	}
	return d.tagGroup(ctx, what, h.group, tags)
}

// byAzure tells what Azure makes by itself beside Application Insights.
func byAzure(r *armresources.GenericResourceExpanded, n names) bool {
	kind, name := str(r.Type), str(r.Name)
	return equalFold(kind, "microsoft.insights/actiongroups") && equalFold(name, "Application Insights Smart Detection") ||
		equalFold(kind, "microsoft.alertsmanagement/smartDetectorAlertRules") && equalFold(name, "failure anomalies - "+n.insights())
}

// removeSupport removes the storage account that has the lock, which nobody needs any more.
func (d *Driver) removeSupport(ctx context.Context, what, cluster string, h *handle) error {
	id := d.id(h.group, "providers/"+typeAccount+"/"+h.names.support())
	now, err := d.resources.GetByID(ctx, id, versions[typeAccount], nil)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return d.failed(what, "look at its storage account", err)
	}
	if tagOf(now.Tags, tagCluster) != cluster {
		return conflict("%s: the storage account %s has lost its tag %s=%s, and is not removed", what, h.names.support(), tagCluster, cluster)
	}
	if err := d.empty(ctx, what+": storage account "+h.names.support(), kindSupport, id); err != nil {
		return err
	}
	return d.gone(ctx, what+": storage account "+h.names.support(), id, versions[typeAccount])
}

func (d *Driver) removeGroup(ctx context.Context, what, group string) error {
	for failures := 0; ; {
		poller, err := d.groups.BeginDelete(ctx, group, nil)
		if err == nil {
			_, err = poller.PollUntilDone(ctx, &pollOptions{Frequency: d.o.Poll})
		}
		if err == nil {
			_, err = d.groups.Get(ctx, group, nil)
		}
		switch {
		case isNotFound(err):
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("azure: %s: the removal of its resource group %s goes on; run it again: %w", what, group, context.Cause(ctx))
		case err == nil:
		default:
			if failures++; failures >= looks || !isPassing(err) {
				return d.failed(what, "remove its resource group "+group, err)
			}
		}
		if err := d.pause(ctx); err != nil {
			return fmt.Errorf("azure: %s: the removal of its resource group %s goes on; run it again: %w", what, group, err)
		}
	}
}
