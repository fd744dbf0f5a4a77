package kubetest

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// Grant gives a user rights in a namespace, and waits until it has them: verbs by GROUP/RESOURCE, as in "batch/jobs" or
// "/pods/log".
func (c *Cluster) Grant(t testing.TB, namespace, user string, rights map[string][]string) {
	t.Helper()
	var rules strings.Builder
	for what, verbs := range rights {
		group, resource, _ := strings.Cut(what, "/")
		fmt.Fprintf(&rules, "- {apiGroups: [%q], resources: [%q], verbs: [%s]}\n", group, resource, `"`+strings.Join(verbs, `", "`)+`"`)
	}
	const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/"
	c.admin.Must(t, http.MethodPost, rbac+namespace+"/roles", "metadata: {name: "+user+"}\nrules:\n"+rules.String(), nil)
	c.admin.Must(t, http.MethodPost, rbac+namespace+"/rolebindings", `
metadata: {name: `+user+`}
subjects: [{kind: User, name: `+user+`, apiGroup: rbac.authorization.k8s.io}]
roleRef: {kind: Role, name: `+user+`, apiGroup: rbac.authorization.k8s.io}
`, nil)
	for what, verbs := range rights {
		Until(t, "the server knows of the rights", func() bool { return c.may(t, namespace, user, what, verbs[0]) })
	}
}

// may tells whether a user has a right in a namespace, as far as the server knows by now.
func (c *Cluster) may(t testing.TB, namespace, user, what, verb string) bool {
	t.Helper()
	group, resource, _ := strings.Cut(what, "/")
	resource, sub, _ := strings.Cut(resource, "/")
	var review struct{ Status struct{ Allowed bool } }
	c.admin.Must(t, http.MethodPost, "/apis/authorization.k8s.io/v1/subjectaccessreviews", fmt.Sprintf(
		"kind: SubjectAccessReview\napiVersion: authorization.k8s.io/v1\nspec: {user: %q, resourceAttributes: {namespace: %q, verb: %q, group: %q, resource: %q, subresource: %q}}\n",
		user, namespace, verb, group, resource, sub), &review)
	return review.Status.Allowed
}

// User makes a user without rights of its own and returns its kubeconfig.
func (c *Cluster) User(t testing.TB, name string) string {
	t.Helper()
	return c.Through(t, c.proxy, name, "").Kubeconfig
}

// Rights reads the rules of a Role from a file, as Grant takes them.
func Rights(t testing.TB, path string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rules []struct{ APIGroups, Resources, Verbs []string }
	if err := yaml.UnmarshalStrict(text, &rules); err != nil {
		t.Fatal(err)
	}
	rights := map[string][]string{}
	for _, r := range rules {
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				rights[group+"/"+resource] = append(rights[group+"/"+resource], r.Verbs...)
			}
		}
	}
	return rights
}
