package azure

import (
	"crypto/hmac"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeployments"
)

//go:embed templates/*.json
var templates embed.FS

// recipe is how something is made: a template, and its parameters.
type recipe struct {
	template   string // of the folder templates, without .json
	parameters map[string]any
}

func (r *recipe) read() (json.RawMessage, error) {
	text, err := templates.ReadFile("templates/" + r.template + ".json")
	if err != nil {
		return nil, fmt.Errorf("azure: template %s: %w", r.template, err)
	}
	return text, nil
}

// properties are the deployment as it is sent. Deployments are incremental: what the template
// does not name stays as it is.
func (r *recipe) properties() (*armdeployments.DeploymentProperties, error) {
	text, err := r.read()
	if err != nil {
		return nil, err
	}
	p := &armdeployments.DeploymentProperties{
		Mode: new(armdeployments.DeploymentModeIncremental), Template: text,
		Parameters: map[string]*armdeployments.DeploymentParameter{},
	}
	for name, value := range r.parameters {
		p.Parameters[name] = &armdeployments.DeploymentParameter{Value: value}
	}
	return p, nil
}

// digest tells whether two recipes are the same, and nothing of the secrets in them.
func (r *recipe) digest(salt []byte) (string, error) {
	text, err := r.read()
	if err != nil {
		return "", err
	}
	parameters, err := json.Marshal(r.parameters)
	if err != nil {
		return "", err
	}
	h := hmac.New(sha256.New, salt)
	_, _ = h.Write(text) // never fails
	_, _ = h.Write(parameters)
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}
