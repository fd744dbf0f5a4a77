package share

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"gocloud.dev/blob/azureblob"
)

var (
	containerName = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){2,62}$`)
	domainName    = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
	accountName   = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
)

// openAzure opens a container. Its options are storage_account, and domain for clouds
// other than the public one. The connection string names the account, too; without one
// the credential is what the Azure SDK finds, such as a managed identity. The user and
// password of the URL are an account and its key.
func openAzure(ctx context.Context, u *url.URL, o *Options) (*Share, error) {
	values, err := options(u, "storage_account", "domain")
	if err != nil {
		return nil, err
	}
	if !containerName.MatchString(u.Host) {
		return nil, invalid("%q is no name of a container: want azblob://CONTAINER, 3 to 63 small letters, digits and single -", u.Host)
	}
	account, domain := values.Get("storage_account"), values.Get("domain")
	if account != "" && !accountName.MatchString(account) {
		return nil, invalid("option storage_account is %q: want 3 to 24 small letters and digits", account)
	}
	if domain == "" {
		domain = "blob.core.windows.net"
	}
	if !domainName.MatchString(domain) {
		return nil, invalid("option domain is %q: want one such as blob.core.windows.net", domain)
	}
	transport := newTransport()
	opts := &container.ClientOptions{ClientOptions: policy.ClientOptions{Transport: &http.Client{Transport: transport}}}
	client, err := azureClient(u, account, domain, o.AzureConnection, opts)
	if err != nil {
		return nil, err
	}
	bucket, err := azureblob.OpenBucket(ctx, client, nil)
	if err != nil {
		return nil, err
	}
	return &Share{bucket: bucket, transport: transport, whole: &Missing{"container", u.Host}}, nil
}

// azureClient is a client with the first of these: the key of the URL, the connection
// string, the credential that the SDK finds.
func azureClient(u *url.URL, account, domain, connection string, o *container.ClientOptions) (*container.Client, error) {
	if u.User != nil {
		return azureKeyClient(u, account, domain, o)
	}
	if connection != "" {
		if named := connectionAccount(connection); account != "" && account != named {
			return nil, invalid("the connection string is that of the account %q", named)
		}
		client, err := container.NewClientFromConnectionString(connection, u.Host, o)
		if err != nil { // which repeats what it could not read
			return nil, invalid("the connection string cannot be read: copy it from the access keys of the storage account")
		}
		return client, nil
	}
	if account == "" {
		return nil, invalid("nothing says which storage account: set its connection string, or the option storage_account")
	}
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, err
	}
	return container.NewClient("https://"+account+"."+domain+"/"+u.Host, foundToken{credential}, o)
}

func azureKeyClient(u *url.URL, account, domain string, o *container.ClientOptions) (*container.Client, error) {
	name := u.User.Username()
	if account != "" && account != name {
		return nil, invalid("its user is the account %q, and the option storage_account another", name)
	}
	key, _ := u.User.Password()
	credential, err := container.NewSharedKeyCredential(name, key)
	if err != nil || !accountName.MatchString(name) || key == "" {
		return nil, invalid("its user and password are no account and its key: want azblob://ACCOUNT:KEY@CONTAINER, with %%2F for a slash in the key")
	}
	return container.NewClientWithSharedKeyCredential("https://"+name+"."+domain+"/"+u.Host, credential, o)
}

// connectionAccount is the account that a connection string names; empty if it names none.
func connectionAccount(connection string) string {
	for part := range strings.SplitSeq(connection, ";") {
		if name, ok := strings.CutPrefix(part, "AccountName="); ok {
			return name
		}
	}
	return ""
}

// foundToken says it in short if the Azure SDK finds no credential.
type foundToken struct{ where azcore.TokenCredential }

// GetToken gives a token.
func (f foundToken) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := f.where.GetToken(ctx, o)
	if err != nil && ctx.Err() == nil {
		err = noCredentials("there is no credential for Azure: set the connection string of the storage account, or run where there is a managed identity", err)
	}
	return token, err
}
