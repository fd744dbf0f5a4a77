package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"unicode"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/navvy-run/navvy"
)

type pollOptions = runtime.PollUntilDoneOptions

func equalFold(a, b string) bool { return strings.EqualFold(a, b) }

func conflict(format string, a ...any) error {
	return fmt.Errorf("azure: %s: %w", fmt.Sprintf(format, a...), navvy.ErrConflict)
}

func exists(format string, a ...any) error {
	return fmt.Errorf("azure: %s: %w", fmt.Sprintf(format, a...), navvy.ErrExists)
}

// cause is what Azure says of a failure.
type cause struct {
	code, message, target string
	status                int
}

// remedy is what a code of Azure's means, and what to do about it.
type remedy struct {
	is error
	do string
}

// remedies are Azure's codes that people meet, in small letters.
var remedies = map[string]remedy{
	"authorizationfailed":                 {navvy.ErrDenied, "who is signed in lacks the right: have somebody give it the role Contributor of the subscription or the resource group"},
	"linkedauthorizationfailed":           {navvy.ErrDenied, "who is signed in lacks the right to something that it needs: see the message"},
	"invalidauthenticationtoken":          {navvy.ErrDenied, "sign in again, as with az login"},
	"invalidauthenticationtokentenant":    {navvy.ErrDenied, "the subscription is of another tenant: sign in to that one, as with az login --tenant"},
	"expiredauthenticationtoken":          {navvy.ErrDenied, "sign in again, as with az login"},
	"requestdisallowedbypolicy":           {navvy.ErrDenied, "a policy of the subscription forbids it: see the message, and ask who wrote the policy"},
	"scopelocked":                         {navvy.ErrDenied, "somebody locked it against changes: remove the lock (az lock list)"},
	"subscriptionnotfound":                {navvy.ErrNotFound, "is azure.subscription right, and can who is signed in see it (az account list)?"},
	"invalidsubscriptionid":               {navvy.ErrInvalid, "is azure.subscription right (az account list)?"},
	"readonlydisabledsubscription":        {navvy.ErrDenied, "the subscription is disabled: see to it in the portal"},
	"missingsubscriptionregistration":     {navvy.ErrDenied, "the subscription does not know that kind of resource: az provider register --namespace, with the one of the message"},
	"locationnotavailableforresourcetype": {navvy.ErrInvalid, "that location has none of these: set azure.location to another one"},
	"nosuchlocation":                      {navvy.ErrInvalid, "is azure.location right (az account list-locations)?"},
	"invalidresourcegrouplocation":        {navvy.ErrConflict, "the resource group is in another location, and cannot move: destroy the cluster first, or set azure.location back"},
	"invalidresourcelocation":             {navvy.ErrConflict, "it is in another location, and cannot move: destroy the cluster first, or set azure.location back"},
	"quotaexceeded":                       {navvy.ErrExhausted, "the subscription's quota there is used up: lower workers.count, workers.cpus or workers.memory, ask for more in the portal (Quotas), or take another location"},
	"containergroupquotareached":          {navvy.ErrExhausted, "the subscription's quota of container groups there is used up: lower workers.count, or ask for more in the portal (Quotas)"},
	"serviceunavailable":                  {navvy.ErrUnavailable, "there is no room for it there now: try again later, or take another location, or less workers.cpus and workers.memory"},
	"containergrouptransitioning":         {navvy.ErrConflict, "it is still changing: apply again in a minute"},
	"resourcerequestsnotsatisfied":        {navvy.ErrInvalid, "a container group cannot have that much there: lower workers.cpus or workers.memory; with insights there are 0.25 cores and 0.5 GiB of a collector, too"},
	"resourcesomerequestsnotspecified":    {navvy.ErrInvalid, "see the message"},
	"skunotavailable":                     {navvy.ErrInvalid, "that location does not have it: set queue.sku or azure.location to another one"},
	"invalidsku":                          {navvy.ErrInvalid, "there is no such SKU: set queue.sku to one that the message names"},
	"messagingskunotavailable":            {navvy.ErrInvalid, "there is no such SKU there: set queue.sku to Standard, or azure.location to another one"},
	"inaccessibleimage":                   {navvy.ErrInvalid, "Azure cannot pull workers.image, or monitor.collector if that is the image it names: is its name right, with its registry and tag, and can anybody pull it without signing in?"},
	"invalidimagename":                    {navvy.ErrInvalid, "workers.image, or monitor.collector, is no name of an image"},
	"imageosformatchmismatch":             {navvy.ErrInvalid, "workers.image is for another system: want linux/amd64"},
	"imageostypenotmatchcontainergroup":   {navvy.ErrInvalid, "workers.image is for another system: want linux/amd64"},
	"registryerrorresponse":               {navvy.ErrUnavailable, "the registry of workers.image, or of monitor.collector, does not answer as it should: try again later; Docker Hub bounds how often it is asked"},
	"storageaccountalreadytaken":          {navvy.ErrExists, "somebody in the world has that name: give the cluster or its resource group another one"},
	"storageaccountalreadyexists":         {navvy.ErrExists, "it is in another resource group of yours: remove it there, or give the cluster another name"},
	"namespacealreadyexists":              {navvy.ErrExists, "somebody in the world has that name: give the cluster or its resource group another one"},
	"messagingnamespacealreadyexists":     {navvy.ErrExists, "somebody in the world has that name: give the cluster or its resource group another one"},
	"accountnameinvalid":                  {navvy.ErrInvalid, "see the message"},
	"resourcegroupbeingdeleted":           {navvy.ErrConflict, "its resource group is being removed: wait until that is over, and apply again"},
	"deploymentactive":                    {navvy.ErrConflict, "a deployment of that name is under way: apply again in a minute"},
	"deploymentquotaexceeded":             {navvy.ErrExhausted, "the resource group has 800 deployments: remove old ones (az deployment group delete)"},
	"toomanyrequests":                     {navvy.ErrUnavailable, "Azure is asked too often: try again later"},
	"invalidtemplate":                     {navvy.ErrInvalid, "Azure refuses our template: that is a mistake of navvy's, please tell us"},
	"invalidtemplatedeployment":           {navvy.ErrInvalid, "see the message"},
}

func known(code string) bool { _, ok := remedies[strings.ToLower(code)]; return ok }

// failed wraps what a call has come to; nil for nil. What is neither Azure's answer nor ours
// is a connection that failed.
func (d *Driver) failed(what, step string, err error) error {
	var answer *azcore.ResponseError
	var signIn *azidentity.AuthenticationFailedError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("azure: %s: %s: %w", what, step, err)
	case errors.As(err, &answer):
		return &callError{answer: answer, told: explain(what, step, causeOf(answer))}
	case errors.As(err, &signIn), isCredential(err):
		return noCredentials(err)
	}
	return fmt.Errorf("azure: %s: %s: Azure does not answer; is this machine on line? %w: %w", what, step, navvy.ErrUnavailable, err)
}

// callError is an answer of Azure's with what it means.
type callError struct {
	answer *azcore.ResponseError
	told   error
}

func (e *callError) Error() string   { return e.told.Error() }
func (e *callError) Unwrap() []error { return []error{e.told, e.answer} }

// isCredential tells whether there was nothing to sign in with. The SDK does not export the
// type of that error.
func isCredential(err error) bool {
	return strings.Contains(err.Error(), "DefaultAzureCredential: failed") || strings.Contains(err.Error(), "failed to acquire a token")
}

func noCredentials(err error) error {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Errorf("azure: there is nothing to sign in with: run az login, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or run where there is a managed identity (%.200s): %w", first, navvy.ErrDenied)
}

// causeOf reads the body of an answer.
func causeOf(answer *azcore.ResponseError) cause {
	c := cause{code: answer.ErrorCode, status: answer.StatusCode}
	if answer.RawResponse == nil || answer.RawResponse.Body == nil {
		return c
	}
	text, err := io.ReadAll(io.LimitReader(answer.RawResponse.Body, 1<<20))
	if err != nil || len(text) == 0 {
		return c
	}
	inner := nested(cause{message: string(text), status: c.status})
	if inner.code == "" {
		inner.code = c.code
	}
	return inner
}

// wire is Azure's form of an error, in which others can be, also as a text.
type wire struct {
	Error   *wire  `json:"error"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Target  string `json:"target"`
	Details []wire `json:"details"`
}

// nested looks into a message that is JSON again.
func nested(c cause) cause {
	var w wire
	if json.Unmarshal([]byte(c.message), &w) != nil {
		return c
	}
	if found := w.deepest(0); found.message != "" || found.code != "" {
		found.status = c.status
		if found.code == "" {
			found.code = c.code
		}
		return found
	}
	return c
}

// mostNested bounds how deep errors are looked for in errors.
const mostNested = 8

func (w *wire) deepest(depth int) cause {
	if w.Error != nil && depth < mostNested {
		return w.Error.deepest(depth + 1)
	}
	c := cause{code: w.Code, message: w.Message, target: w.Target}
	for i := range w.Details {
		if depth >= mostNested {
			break
		}
		inner := w.Details[i].deepest(depth + 1)
		if known(inner.code) || !known(c.code) {
			return inner
		}
	}
	if depth < mostNested && strings.HasPrefix(strings.TrimSpace(w.Message), "{") {
		return nested(c)
	}
	return c
}

// secretive finds what might be a key in a message: Azure repeats what it was sent.
var secretive = regexp.MustCompile(`(?i)(AccountKey|SharedAccessKey|sig|password)=[^;&"'\s]+`)

// explain says what happened to a resource, and what to do.
func explain(what, step string, c cause) error {
	r, ok := remedies[strings.ToLower(c.code)]
	if !ok {
		r = byStatus(c)
	}
	message := clean(secretive.ReplaceAllString(c.message, "$1=…"), 500)
	c.code = clean(c.code, 80)
	text := what + ": " + step + ": "
	if message != "" {
		text += message + " "
	}
	if c.code != "" {
		text += "(" + c.code + ")"
	}
	if r.do != "" {
		text += ": " + r.do
	}
	return fmt.Errorf("azure: %s: %w", text, r.is)
}

// clean is a text of Azure's as people are shown it: on one line, with nothing that steers a
// terminal, and not for ever.
func clean(text string, most int) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.Join(strings.Fields(text), " ")))
	if len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return string(runes)
}

// byStatus is what a status of HTTP means, where the code says nothing to us.
func byStatus(c cause) remedy {
	lower := strings.ToLower(c.code + " " + c.message)
	switch {
	case strings.Contains(lower, "quota") && c.status != http.StatusNotFound:
		return remedies["quotaexceeded"]
	case c.status == http.StatusUnauthorized:
		return remedies["invalidauthenticationtoken"]
	case c.status == http.StatusForbidden:
		return remedies["authorizationfailed"]
	case c.status == http.StatusNotFound:
		return remedy{navvy.ErrNotFound, "is it gone? apply again"}
	case c.status == http.StatusConflict, c.status == http.StatusPreconditionFailed:
		return remedy{navvy.ErrConflict, "apply again when what goes on there is over"}
	case c.status == http.StatusTooManyRequests:
		return remedies["toomanyrequests"]
	case c.status == http.StatusRequestTimeout, c.status >= 500:
		return remedy{navvy.ErrUnavailable, "that is Azure's own fault: try again later"}
	}
	return remedy{navvy.ErrInvalid, ""}
}

func statusOf(err error) int {
	if answer, is := errors.AsType[*azcore.ResponseError](err); is {
		return answer.StatusCode
	}
	return 0
}

func isNotFound(err error) bool { return statusOf(err) == http.StatusNotFound }

// isActive tells whether a deployment of that name is under way.
func isActive(err error) bool {
	var answer *azcore.ResponseError
	return errors.As(err, &answer) && equalFold(answer.ErrorCode, "DeploymentActive")
}

// isPassing tells whether it may be otherwise in a while: a connection, a server that errs,
// one that is asked too often.
func isPassing(err error) bool {
	status := statusOf(err)
	return status == 0 && !isCredential(err) || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500
}
