package azure

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"

	"github.com/navvy-run/navvy/cluster/driver"
)

// at goes into what was JSON, by keys and by indexes of lists; nil for what is not there.
// Azure does not tell letters of names apart, and we do not either.
func at(v any, keys ...any) any {
	for _, key := range keys {
		switch key := key.(type) {
		case string:
			v = member(v, key)
		case int:
			list, _ := v.([]any)
			if key >= len(list) {
				return nil
			}
			v = list[key]
		}
	}
	return v
}

func member(v any, name string) any {
	m, _ := v.(map[string]any)
	if found, ok := m[name]; ok {
		return found
	}
	for key, found := range m {
		if equalFold(key, name) {
			return found
		}
	}
	return nil
}

func field(r *armresources.GenericResource, keys ...any) any { return at(r.Properties, keys...) }

// text is a value for people; empty for none.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	default:
		return fmt.Sprint(v)
	}
}

// normal is a location as the file has it: Azure writes West Europe, too.
func normal(location string) string {
	return strings.ToLower(strings.ReplaceAll(location, " ", ""))
}

// properties are what can be said of a resource with tags.
func properties(kind string, r *armresources.GenericResource) driver.Properties {
	tags := map[string]string{}
	for _, name := range []string{tagQueue, tagRequest, tagResponse, tagService} {
		tags[name] = tagOf(r.Tags, name)
	}
	p := driver.Properties{"tags": contractTags(tags)}
	switch kind {
	case kindWorkspace:
		p["days"] = text(field(r, "retentionInDays"))
	case kindInsights:
		id := text(field(r, "WorkspaceResourceId"))
		p["workspace"] = id[strings.LastIndex(id, "/")+1:]
	case kindNamespace:
		p["sku"], p["tls"] = skuOf(r), text(field(r, "minimumTlsVersion"))
	case kindAccount:
		p["sku"], p["tls"] = skuOf(r), text(field(r, "minimumTlsVersion"))
	case kindWorker:
		workerProperties(r, p)
	case kindAKS:
		aksProperties(r, p)
	case kindCollection:
		id := text(field(r, "destinations", "logAnalytics", 0, "workspaceResourceId"))
		p["workspace"] = id[strings.LastIndex(id, "/")+1:]
	}
	return p
}

func skuOf(r *armresources.GenericResource) string {
	if r.SKU == nil {
		return ""
	}
	return str(r.SKU.Name)
}

// born tells a namespace or account from one of the same name that was made later, with other
// keys; empty if Azure does not say when it was made.
func born(r *armresources.GenericResource) string {
	for _, name := range []string{"createdAt", "creationTime"} { // of a namespace, of an account
		if when := text(field(r, name)); when != "" {
			return str(r.Name) + " " + when
		}
	}
	return ""
}

func workerProperties(r *armresources.GenericResource, p driver.Properties) {
	c := field(r, "containers", 0, "properties")
	p["image"] = text(at(c, "image"))
	p["cpus"], p["memory"] = text(at(c, "resources", "requests", "cpu")), text(at(c, "resources", "requests", "memoryInGB"))
	if command, err := json.Marshal(at(c, "command")); err == nil {
		p["command"] = string(command)
	}
	p["insights"], p["collector"] = "", ""
	for _, other := range elements(field(r, "containers")) {
		if text(at(other, "name")) == collectorName {
			p["collector"] = readCollector(at(other, "properties"))
		}
	}
	for _, v := range elements(at(c, "environmentVariables")) {
		if text(at(v, "name")) == varInsights {
			p["insights"] = given
		}
	}
	open := readOpen(c)
	volumes := map[string]any{}
	for _, v := range elements(field(r, "volumes")) {
		volumes[text(at(v, "name"))] = at(v, "azureFile")
	}
	var mounts []mount
	for _, m := range elements(at(c, "volumeMounts")) {
		v := volumes[text(at(m, "name"))]
		mounts = append(mounts, mount{Path: text(at(m, "mountPath")), Account: text(at(v, "storageAccountName")), Share: text(at(v, "shareName"))})
	}
	own := map[string]string{}
	for name, value := range r.Tags {
		if label, ok := strings.CutPrefix(name, tagLabel); ok {
			own[label] = str(value)
		}
	}
	p["environment"], p["mounts"], p["labels"], p["secrets"] = told(open), toldMounts(mounts), told(labels(own)), tagOf(r.Tags, tagSecrets)
}

// readOpen are the variables of a container that are no secrets, of which Azure tells the names
// alone.
func readOpen(container any) []variable {
	var open []variable
	for _, v := range elements(at(container, "environmentVariables")) {
		if value, ok := at(v, "value").(string); ok {
			open = append(open, variable{Name: text(at(v, "name")), Value: value})
		}
	}
	return open
}

func readCollector(c any) string {
	var command []string
	for _, word := range elements(at(c, "command")) {
		command = append(command, text(word))
	}
	return toldCollector(&container{
		Image: text(at(c, "image")), Command: command, Environment: readOpen(c),
		CPUs: text(at(c, "resources", "requests", "cpu")), Memory: text(at(c, "resources", "requests", "memoryInGB")),
	})
}

// elements are those of a list.
func elements(v any) []any { list, _ := v.([]any); return list }

// health says how a resource is, by what Azure says of it.
func health(kind string, r *armresources.GenericResource) (driver.Health, string) {
	switch state := text(field(r, "provisioningState")); state {
	case "Failed", "Canceled", "Unhealthy":
		if kind == kindWorker {
			if _, why := workerHealth(r); why != "" {
				return driver.HealthFailed, why
			}
		}
		return driver.HealthFailed, "Azure could not make it: " + state
	case "Succeeded", "":
	default:
		return driver.HealthStarting, state
	}
	switch kind {
	case kindWorker:
		return workerHealth(r)
	case kindAKS:
		return aksHealth(text(field(r, "powerState", "code")))
	}
	return driver.HealthOK, ""
}

// workerHealth looks at the containers of a worker. It works also without the collector beside
// it, once it runs.
func workerHealth(r *armresources.GenericResource) (driver.Health, string) {
	health, why := containerHealth(r, 0)
	if health == driver.HealthFailed || len(elements(field(r, "containers"))) < 2 {
		return health, why
	}
	switch beside, reason := containerHealth(r, 1); {
	case beside != driver.HealthFailed:
		return health, why
	case health == driver.HealthOK:
		return health, "nobody takes its traces: the collector: " + reason
	default:
		return driver.HealthFailed, "the collector: " + reason
	}
}

// containerHealth looks at the state of a container, and at why it is not running.
func containerHealth(r *armresources.GenericResource, i int) (driver.Health, string) {
	view := field(r, "containers", i, "properties", "instanceView")
	state, detail := text(at(view, "currentState", "state")), text(at(view, "currentState", "detailStatus"))
	restarts := text(at(view, "restartCount"))
	if why := pullFailure(r, i, detail); why != "" {
		return driver.HealthFailed, why
	}
	switch group := text(field(r, "instanceView", "state")); {
	case state == "Running":
		if restarts != "" && restarts != "0" {
			return driver.HealthOK, "started anew " + restarts + " times"
		}
		return driver.HealthOK, ""
	case state == "Terminated", detail == "CrashLoopBackOff":
		see := "see az container logs --name " + str(r.Name) + " --container-name " + text(field(r, "containers", i, "name"))
		return driver.HealthFailed, strings.TrimSpace("it ended with exit code " + orUnknown(text(at(view, "currentState", "exitCode"))) + " " + detail + ": " + see)
	case group == "Failed", group == "Stopped":
		return driver.HealthFailed, "the container group is " + strings.ToLower(group)
	default:
		return driver.HealthStarting, strings.TrimSpace(state + " " + detail)
	}
}

func orUnknown(code string) string {
	if code == "" {
		return "unknown"
	}
	return code
}

// pullFailure says why the image of a container cannot be pulled, by the container's state and
// events, and those of the group that are of no other image.
func pullFailure(r *armresources.GenericResource, i int, detail string) string {
	why := ""
	for _, e := range slices.Concat(elements(field(r, "instanceView", "events")), elements(field(r, "containers", i, "properties", "instanceView", "events"))) {
		switch said := text(at(e, "message")); {
		case ofAnother(r, i, said):
		case strings.EqualFold(text(at(e, "type")), "Warning") && strings.Contains(strings.ToLower(said), "pull"):
			why = said
		case text(at(e, "name")) == "Pulled":
			why = ""
		}
	}
	waiting := detail == "ImagePullBackOff" || detail == "ErrImagePull"
	if why == "" && !waiting {
		return ""
	}
	do := remedies["inaccessibleimage"].do
	if i > 0 {
		do = "can it be pulled from there? monitor.collector names another one"
	}
	return strings.TrimSpace("its image cannot be pulled: " + why + " " + do)
}

// ofAnother tells whether an event names the image of another container, and not this one's.
func ofAnother(r *armresources.GenericResource, i int, said string) bool {
	for j, c := range elements(field(r, "containers")) {
		if image := text(at(c, "properties", "image")); j != i && image != "" && strings.Contains(said, image) {
			return !strings.Contains(said, text(field(r, "containers", i, "properties", "image")))
		}
	}
	return false
}

// childProperties are what can be said of a queue or a share.
func childProperties(kind string, h *handle, c *child) driver.Properties {
	switch kind {
	case kindShare:
		return driver.Properties{
			"content": text(at(c.Properties, "metadata", metaContent)), "files": text(at(c.Properties, "metadata", metaFiles)),
			"share": h.path[strings.LastIndex(h.path, "/")+1:],
		}
	case kindStored:
		return driver.Properties{}
	default:
		return driver.Properties{
			"lease":          isoSpan(text(at(c.Properties, "lockDuration"))),
			"deliveries":     text(at(c.Properties, "maxDeliveryCount")),
			"dead-lettering": text(at(c.Properties, "deadLetteringOnMessageExpiration")),
		}
	}
}

// holds says how many messages are lost with a queue: of Service Bus those of its dead letters,
// too; of a storage queue about.
func holds(c *child) string {
	for _, name := range []string{"messageCount", "approximateMessageCount"} {
		if n := text(at(c.Properties, name)); n == "1" {
			return "1 message"
		} else if n != "" && n != "0" {
			return n + " messages"
		}
	}
	return ""
}

// isoSpan reads a time of ISO 8601 such as PT1M30S, and writes it as the file does; what it
// cannot read it gives back.
func isoSpan(text string) string {
	rest, ok := strings.CutPrefix(text, "PT")
	if !ok {
		return text
	}
	d, err := time.ParseDuration(strings.ToLower(rest))
	if err != nil {
		return text
	}
	return span(d)
}

// versionOf is the version of the interface for what is in a resource.
func versionOf(path string) string {
	for kind, version := range versions {
		if strings.HasPrefix(path, "providers/"+kind+"/") {
			return version
		}
	}
	return ""
}
