package azure

import (
	"encoding/pem"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// beginAKS is what Azure makes with an AKS cluster: a resource group for its nodes, which has
// the tags of the cluster.
func (c *cloud) beginAKS(t *thing) {
	t.properties["powerState"] = map[string]any{"code": "Running"}
	name := text(t.properties["nodeResourceGroup"])
	c.groups[key(name)] = &armresources.ResourceGroup{
		ID: new("/subscriptions/" + testSubscription + "/resourceGroups/" + name), Name: new(name), Location: new(t.location),
		Tags: maps.Clone(t.tags), ManagedBy: new(t.id), Properties: &armresources.ResourceGroupProperties{ProvisioningState: new("Succeeded")},
	}
}

func (c *cloud) endAKS(t *thing) {
	delete(c.groups, key(text(t.properties["nodeResourceGroup"])))
	if c.ended != nil {
		c.ended(t.name)
	}
}

// credential is that of the administrator of an AKS cluster.
func (c *cloud) credential(req *http.Request, path string) *http.Response {
	switch t := c.resources[strings.ToLower(path)]; {
	case t == nil || t.kind != typeAKS:
		return failure(req, 404, "ResourceNotFound")
	case c.kubeconfig == nil:
		return failure(req, 400, "BadRequest")
	}
	return reply(req, 200, map[string]any{"kubeconfigs": []any{map[string]any{"name": "clusterAdmin", "value": c.kubeconfig}}})
}

// answering is the kubeconfig of something that answers like an API server that has nothing.
func answering(t testing.TB) []byte {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"items": []}`))
	}))
	server.EnableHTTP2, server.Config.ErrorLog = true, slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of connections that nobody needs in the end
	server.StartTLS()
	t.Cleanup(server.Close)
	config := clientcmdapi.NewConfig()
	config.Clusters["aks"] = &clientcmdapi.Cluster{
		Server:                   server.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}
	config.Contexts["aks"] = &clientcmdapi.Context{Cluster: "aks", AuthInfo: "admin"}
	config.AuthInfos["admin"] = &clientcmdapi.AuthInfo{Token: "token-of-the-administrator"}
	config.CurrentContext = "aks"
	text, err := clientcmd.Write(*config)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
