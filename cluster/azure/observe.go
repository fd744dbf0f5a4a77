package azure

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeployments"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"
	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy/cluster/driver"
)

// handle is what Remove wants to know.
type handle struct {
	group, path string
	names       names
	// queues is of which namespace or account a worker has keys, and what one of these is.
	queues string
}

// Clusters implements driver.Driver.
func (d *Driver) Clusters(ctx context.Context) ([]string, error) {
	groups, err := d.marked(ctx, "tagName eq '"+tagCluster+"'")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, g := range groups {
		if name := tagOf(g.Tags, tagCluster); name != "" && tagOf(g.Tags, tagSalt) != "" {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// marked lists resource groups by a filter.
func (d *Driver) marked(ctx context.Context, filter string) ([]*armresources.ResourceGroup, error) {
	var all []*armresources.ResourceGroup
	pager := d.groups.NewListPager(&armresources.ResourceGroupsClientListOptions{Filter: new(filter)})
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, d.failed("subscription "+d.subscription, "list its resource groups", err)
		}
		all = append(all, page.Value...)
	}
	return all, nil
}

// find is the resource group of a cluster; nil if there is none.
func (d *Driver) find(ctx context.Context, cluster string) (*armresources.ResourceGroup, error) {
	groups, err := d.marked(ctx, fmt.Sprintf("tagName eq '%s' and tagValue eq '%s'", tagCluster, strings.ReplaceAll(cluster, "'", "''")))
	if err != nil {
		return nil, err
	}
	var found *armresources.ResourceGroup
	for _, g := range groups {
		if tagOf(g.Tags, tagCluster) != cluster || tagOf(g.Tags, tagKind) != "" {
			continue // AKS gives the group of its nodes the tags that it has itself
		}
		if found != nil {
			return nil, conflict("cluster %s: both resource groups %s and %s have its tag %s: take it off the one that is not its", cluster, str(found.Name), str(g.Name), tagCluster)
		}
		found = g
	}
	return found, nil
}

// Observe implements driver.Driver.
func (d *Driver) Observe(ctx context.Context, cluster string) (*driver.World, error) {
	group, err := d.find(ctx, cluster)
	if err != nil || group == nil {
		return &driver.World{}, err
	}
	o := &observation{d: d, cluster: cluster, group: str(group.Name), names: d.names(cluster, str(group.Name))}
	w := &driver.World{}
	if text := tagOf(group.Tags, tagSalt); text != "" {
		if w.Salt, err = hex.DecodeString(text); err != nil {
			return nil, conflict("cluster %s: the tag %s of its resource group is damaged: it takes hexadecimal digits", cluster, tagSalt)
		}
	}
	if w.Config, err = o.config(ctx); err != nil {
		return nil, err
	}
	w.Resources = []driver.Observed{o.mark(group, w.Config != nil)}
	if err := o.list(ctx); err != nil {
		return nil, err
	}
	if err := o.look(ctx); err != nil {
		return nil, err
	}
	if err := o.guests(ctx, w.Salt); err != nil {
		return nil, err
	}
	o.lockedOut()
	for _, r := range o.found {
		if r.Kind != "" {
			w.Resources = append(w.Resources, r)
		}
	}
	slices.SortFunc(w.Resources[1:], func(a, b driver.Observed) int {
		if n := slices.Index(rank, a.Kind) - slices.Index(rank, b.Kind); n != 0 {
			return n
		}
		if n := len(a.Name) - len(b.Name); n != 0 && a.Kind == kindWorker {
			return n // 2 before 10
		}
		return strings.Compare(a.Name, b.Name)
	})
	link2(w.Resources)
	return w, nil
}

func link2(all []driver.Observed) {
	ids := make([]driver.ID, len(all))
	for i := range all {
		ids[i] = all[i].ID
	}
	for i := range all {
		all[i].Needs = link(ids, all[i].ID)
	}
}

// observation looks at one cluster.
type observation struct {
	d              *Driver
	cluster, group string
	names          names
	found          []driver.Observed // without Kind for what is gone
}

// config is the file that was applied last, as the deployment of the mark has it; nil if that
// is not there: Azure removes old deployments of a group that has 800.
func (o *observation) config(ctx context.Context) ([]byte, error) {
	name := o.names.deployment(driver.ID{Kind: driver.KindCluster, Name: o.cluster})
	e, err := o.d.deployments.Get(ctx, o.group, name, nil)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, o.d.failed("cluster "+o.cluster, "read its deployment "+name, err)
	}
	if e.Properties == nil {
		return nil, nil
	}
	for _, from := range []any{e.Properties.Outputs, e.Properties.Parameters} {
		if text, ok := at(from, "config", "value").(string); ok && text != "" {
			return []byte(text), nil
		}
	}
	return nil, nil
}

func (o *observation) mark(g *armresources.ResourceGroup, hasFile bool) driver.Observed {
	m := driver.Observed{ID: driver.ID{Kind: driver.KindCluster, Name: o.cluster}, Health: driver.HealthOK,
		Properties: driver.Properties{"group": o.group, "location": normal(str(g.Location)), "file": tagOf(g.Tags, tagFile)},
		Handle:     &handle{group: o.group, names: o.names},
	}
	if !hasFile || tagOf(g.Tags, tagSalt) == "" { // then the mark is put once more
		m.Properties["file"] = ""
	}
	if g.Properties != nil && str(g.Properties.ProvisioningState) == "Deleting" {
		m.Health, m.Detail = driver.HealthStarting, "it is being removed"
	}
	return m
}

// list finds what bears the mark: resources by their tags, and those that have none by the
// deployments that made them.
func (o *observation) list(ctx context.Context) error {
	all, err := o.d.inGroup(ctx, o.group)
	if err != nil {
		return err
	}
	for _, r := range all {
		kind := tagOf(r.Tags, tagKind)
		if tagOf(r.Tags, tagCluster) != o.cluster || types[kind] == "" || !equalFold(types[kind], str(r.Type)) {
			continue
		}
		o.add(kind, str(r.Name), "providers/"+types[kind]+"/"+str(r.Name))
	}
	pager := o.d.deployments.NewListByResourceGroupPager(o.group, nil)
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return o.d.failed("resource group "+o.group, "list its deployments", err)
		}
		for _, e := range page.Value {
			o.record(e)
		}
	}
	return nil
}

// record takes what a deployment says of a queue or a share.
func (o *observation) record(e *armdeployments.DeploymentExtended) {
	kind, name := tagOf(e.Tags, tagKind), tagOf(e.Tags, tagName)
	if tagOf(e.Tags, tagCluster) != o.cluster || name == "" || o.names.deployment(driver.ID{Kind: kind, Name: name}) != str(e.Name) {
		return
	}
	account := "providers/" + typeAccount + "/"
	switch kind {
	case kindShare:
		o.add(kind, name, account+o.names.support()+"/fileServices/default/shares/"+o.names.share(name))
	case kindQueue:
		o.add(kind, name, "providers/"+typeNamespace+"/"+o.names.namespace()+"/queues/"+name)
	case kindStored:
		o.add(kind, name, account+o.names.account()+"/queueServices/default/queues/"+name)
	}
}

func (o *observation) add(kind, name, path string) {
	o.found = append(o.found, driver.Observed{
		ID: driver.ID{Kind: kind, Name: name}, Health: driver.HealthUnknown, Handle: &handle{group: o.group, path: path, names: o.names},
	})
}

// inGroup lists what has tags in a resource group.
func (d *Driver) inGroup(ctx context.Context, group string) ([]*armresources.GenericResourceExpanded, error) {
	var all []*armresources.GenericResourceExpanded
	pager := d.resources.NewListByResourceGroupPager(group, nil)
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, d.failed("resource group "+group, "list what is in it", err)
		}
		all = append(all, page.Value...)
	}
	return all, nil
}

// eyes is how many resources are looked at at once.
const eyes = 8

// look asks for each of what was found how it is. One that cannot be looked at is unknown.
func (o *observation) look(ctx context.Context) error {
	group, looking := errgroup.WithContext(ctx)
	group.SetLimit(eyes)
	for i := range o.found {
		group.Go(func() error {
			err := o.lookAt(looking, &o.found[i])
			if err != nil && looking.Err() == nil {
				o.found[i].Detail = err.Error()
				if _, tagged := types[o.found[i].Kind]; !tagged { // those with tags hold nothing themselves
					o.found[i].Holds = "what is in it is not known"
				}
				return nil
			}
			return err
		})
	}
	return group.Wait()
}

func (o *observation) lookAt(ctx context.Context, r *driver.Observed) error {
	h, _ := r.Handle.(*handle)
	id := o.d.id(o.group, h.path)
	if kind, tagged := types[r.Kind]; tagged {
		now, err := o.d.resources.GetByID(ctx, id, versions[kind], nil)
		if isNotFound(err) {
			r.ID = driver.ID{}
			return nil
		}
		if err != nil {
			return o.d.failed(r.String(), "look at it", err)
		}
		switch r.Kind {
		case kindWorker:
			h.queues = tagOf(now.Tags, tagQueues)
		case kindNamespace, kindAccount:
			h.queues = born(&now.GenericResource)
		}
		r.Properties = properties(r.Kind, &now.GenericResource)
		r.Health, r.Detail = health(r.Kind, &now.GenericResource)
		return nil
	}
	var now child
	err := o.d.call(ctx, "GET", id, versionOf(h.path), nil, &now)
	if isNotFound(err) {
		r.ID = driver.ID{}
		return nil
	}
	if err != nil {
		return o.d.failed(r.String(), "look at it", err)
	}
	r.Health, r.Properties, r.Holds = driver.HealthOK, childProperties(r.Kind, h, &now), holds(&now)
	if r.Kind == kindStored {
		return o.lookAtDead(ctx, r, h)
	}
	return nil
}

// lockedOut finds workers whose keys are of a namespace or account that is gone: one that is
// made in its place has others.
func (o *observation) lockedOut() {
	there := map[string]bool{}
	for i := range o.found {
		r := &o.found[i]
		if r.Kind != kindNamespace && r.Kind != kindAccount {
			continue
		}
		if r.Health == driver.HealthUnknown {
			return // then nobody knows
		}
		h, _ := r.Handle.(*handle)
		there[h.queues] = true
	}
	for i := range o.found {
		r := &o.found[i]
		if h, _ := r.Handle.(*handle); r.Kind == kindWorker && h.queues != "" && !there[h.queues] {
			r.Health, r.Detail = driver.HealthFailed, lockedOut
		}
		if h, is := r.Handle.(*guestHandle); is && h.of != "" && !there[h.of] {
			o.lockOutGuests()
		}
	}
}

const lockedOut = "what its queues were in is gone, and its keys with that"

// lockOutGuests has the Secrets on an AKS cluster with keys that are no good any more put once more, and
// the workers that have these.
func (o *observation) lockOutGuests() {
	for i := range o.found {
		r := &o.found[i]
		if h, is := r.Handle.(*guestHandle); is && (h.of != "" || r.Kind == kindDeployment) {
			r.Health, r.Detail = driver.HealthFailed, lockedOut
		}
	}
}

// lookAtDead looks whether a storage queue has a queue for its dead letters.
func (o *observation) lookAtDead(ctx context.Context, r *driver.Observed, h *handle) error {
	err := o.d.call(ctx, "GET", o.d.id(o.group, h.path+deadSuffix), versionOf(h.path), nil, nil)
	switch {
	case isNotFound(err):
		r.Properties["dead"] = ""
	case err != nil:
		r.Health = driver.HealthUnknown
		return o.d.failed(r.String(), "look at its dead letters", err)
	default:
		r.Properties["dead"] = r.Name + deadSuffix
	}
	return nil
}
