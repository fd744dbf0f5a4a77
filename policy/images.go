package policy

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/navvy-run/navvy"
)

// patterns reads a list of what containers may have, or a single one.
func (p *parser) patterns(key, what string, list *[]string) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		nodes := []*yaml.Node{n}
		if n.Kind == yaml.SequenceNode {
			nodes = n.Content
		}
		*list = []string{} // an empty list allows none
		for _, n := range nodes {
			text, err := p.scalar(n, key)
			if err != nil {
				return err
			}
			if text == "" || strings.ContainsAny(text, " \t\n") {
				return p.at(n, "%s: %q: want %s, with * for anything", key, short(text), what)
			}
			*list = append(*list, text)
		}
		return nil
	}
}

// allowImage refuses a container of an image that is not for a role.
func (p *Policy) allowImage(role Role, s *navvy.Spec) error {
	if s.Container == nil || p.rules[role].images == nil || matchesAny(p.rules[role].images, s.Container.Image) {
		return nil
	}
	admin := p.rules[Admin]
	may := role != Admin && (admin == nil || admin.images == nil || matchesAny(admin.images, s.Container.Image))
	return p.denied(may, "image %s is not for jobs of role %s, only %s", s.Container.Image, role, listed(p.rules[role].images))
}

// allowNamespace refuses a container in a namespace that is not for a role. A job that names
// none, and whose queue does not, runs where its worker was told to by whoever set it up.
func (p *Policy) allowNamespace(role Role, s *navvy.Spec) error {
	if s.Container == nil || s.Container.Namespace == "" || p.rules[role].namespaces == nil || matchesAny(p.rules[role].namespaces, s.Container.Namespace) {
		return nil
	}
	admin := p.rules[Admin]
	may := role != Admin && (admin == nil || admin.namespaces == nil || matchesAny(admin.namespaces, s.Container.Namespace))
	return p.denied(may, "namespace %s is not for jobs of role %s, only %s", s.Container.Namespace, role, listed(p.rules[role].namespaces))
}

func listed(patterns []string) string {
	if len(patterns) == 0 {
		return "none is"
	}
	return strings.Join(patterns, ", ")
}

// matchesAny tells whether a name is one of those that patterns name; * is anything.
func matchesAny(patterns []string, name string) bool {
	for _, p := range patterns {
		expression := "^" + strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, ".*") + "$"
		if ok, err := regexp.MatchString(expression, name); ok && err == nil {
			return true
		}
	}
	return false
}
