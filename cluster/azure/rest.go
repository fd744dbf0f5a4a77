package azure

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// The calls that no client of the SDK's resources package has: lists and actions of a
// storage account and a namespace. They go through the SDK's pipeline like all others.

// id is a resource's, by its path behind the resource group.
func (d *Driver) id(group, path string) string {
	return "/subscriptions/" + d.subscription + "/resourceGroups/" + group + "/" + path
}

// call sends a request about a resource and reads the answer into out.
func (d *Driver) call(ctx context.Context, method, id, version string, body, out any) error {
	address, query, _ := strings.Cut(id, "?")
	req, err := runtime.NewRequest(ctx, method, runtime.JoinPaths(d.arm.Endpoint(), address))
	if err != nil {
		return err
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	values.Set("api-version", version)
	req.Raw().URL.RawQuery = values.Encode()
	req.Raw().Header.Set("Accept", "application/json")
	if body != nil {
		if err := runtime.MarshalAsJSON(req, body); err != nil {
			return err
		}
	}
	resp, err := d.arm.Pipeline().Do(req)
	if err != nil {
		return err
	}
	if !runtime.HasStatusCode(resp, http.StatusOK, http.StatusCreated, http.StatusNoContent) {
		return runtime.NewResponseError(resp)
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	return runtime.UnmarshalAsJSON(resp, out)
}

// child is a resource without tags, in another.
type child struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Properties map[string]any `json:"properties"`
}

// children lists what is in a resource, such as its queues. A service that the account does
// not have has none.
func (d *Driver) children(ctx context.Context, id, version string) ([]child, error) {
	var all []child
	for next := id; next != ""; {
		var page struct {
			Value    []child `json:"value"`
			NextLink string  `json:"nextLink"`
		}
		err := d.call(ctx, http.MethodGet, next, version, nil, &page)
		if isNotFound(err) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, page.Value...)
		if next = strings.TrimPrefix(page.NextLink, d.arm.Endpoint()); next != "" && !strings.HasPrefix(next, "/") {
			return nil, conflict("%s: its list goes on at another host", id)
		}
	}
	return all, nil
}

// accountKey is the first key of a storage account, for the upload of files: it goes nowhere
// else, and is not kept.
func (d *Driver) accountKey(ctx context.Context, group, account string) (string, error) {
	var answer struct {
		Keys []struct {
			Value string `json:"value"`
		} `json:"keys"`
	}
	id := d.id(group, "providers/"+typeAccount+"/"+account)
	if err := d.call(ctx, http.MethodPost, id+"/listKeys", versions[typeAccount], nil, &answer); err != nil {
		return "", err
	}
	if len(answer.Keys) == 0 {
		return "", unsupported("the storage account %s has no keys: allow its shared keys", account)
	}
	return answer.Keys[0].Value, nil
}
