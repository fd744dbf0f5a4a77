package policy

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/navvy-run/navvy"
)

// images reads a list of the images that containers may be of, or a single one.
func (p *parser) images(r *rules) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		nodes := []*yaml.Node{n}
		if n.Kind == yaml.SequenceNode {
			nodes = n.Content
		}
		r.images = []string{} // an empty list allows none
		for _, n := range nodes {
			text, err := p.scalar(n, "images")
			if err != nil {
				return err
			}
			if text == "" || strings.ContainsAny(text, " \t\n") {
				return p.at(n, "images: %q: want the reference of an image, with * for anything", short(text))
			}
			r.images = append(r.images, text)
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

func listed(images []string) string {
	if len(images) == 0 {
		return "none is"
	}
	return strings.Join(images, ", ")
}

// matchesAny tells whether an image is one of those that patterns name; * is anything.
func matchesAny(patterns []string, image string) bool {
	for _, p := range patterns {
		expression := "^" + strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, ".*") + "$"
		if ok, err := regexp.MatchString(expression, image); ok && err == nil {
			return true
		}
	}
	return false
}
