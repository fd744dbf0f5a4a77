package azure

import (
	"encoding/json"
	"fmt"
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
	var open []variable
	p["insights"], p["collector"] = "", ""
	for _, other := range elements(field(r, "containers")) {
		if text(at(other, "name")) == collectorName {
			p["collector"] = text(at(other, "properties", "image"))
		}
	}
	for _, v := range elements(at(c, "environmentVariables")) {
		// Azure tells of a secret its name alone.
		if text(at(v, "name")) == varInsights {
			p["insights"] = given
		}
		if value, ok := at(v, "value").(string); ok {
			open = append(open, variable{Name: text(at(v, "name")), Value: value})
		}
	}
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

// workerHealth looks at the state of a container, and at why it is not running.
func workerHealth(r *armresources.GenericResource) (driver.Health, string) {
	view := field(r, "containers", 0, "properties", "instanceView")
	state, detail := text(at(view, "currentState", "state")), text(at(view, "currentState", "detailStatus"))
	restarts := text(at(view, "restartCount"))
	if why := pullFailure(r, detail); why != "" {
		return driver.HealthFailed, why
	}
	switch group := text(field(r, "instanceView", "state")); {
	case state == "Running":
		if restarts != "" && restarts != "0" {
			return driver.HealthOK, "started anew " + restarts + " times"
		}
		return driver.HealthOK, ""
	case state == "Terminated", detail == "CrashLoopBackOff":
		return driver.HealthFailed, strings.TrimSpace("it ended with exit code " + orUnknown(text(at(view, "currentState", "exitCode"))) + " " + detail + ": see az container logs --name " + str(r.Name))
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

// pullFailure says why an image cannot be pulled, by the container's state and events.
func pullFailure(r *armresources.GenericResource, detail string) string {
	why := ""
	for _, where := range [][]any{{"instanceView", "events"}, {"containers", 0, "properties", "instanceView", "events"}} {
		for _, e := range elements(field(r, where...)) {
			switch {
			case strings.EqualFold(text(at(e, "type")), "Warning") && strings.Contains(strings.ToLower(text(at(e, "message"))), "pull"):
				why = text(at(e, "message"))
			case text(at(e, "name")) == "Pulled":
				why = ""
			}
		}
	}
	waiting := detail == "ImagePullBackOff" || detail == "ErrImagePull"
	if why == "" && !waiting {
		return ""
	}
	return strings.TrimSpace("its image cannot be pulled: " + why + " " + remedies["inaccessibleimage"].do)
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
