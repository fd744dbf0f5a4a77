package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/quantity"
)

// maxFile bounds a policy, in bytes.
const maxFile = 1 << 20

// Load reads a policy from a file. Errors wrap navvy.ErrInvalid, but for those of
// the file system.
func Load(path string) (*Policy, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return Parse(path, text)
}

// Parse reads a policy, whose file's name it keeps for messages. What it does not
// know it refuses, with the line and what may have been meant.
func Parse(file string, text []byte) (*Policy, error) {
	p := &parser{file: file, policy: Policy{file: file, rules: map[Role]*rules{}}}
	if len(text) > maxFile {
		return nil, p.wrong("it has more than %d MiB", maxFile>>20)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return &p.policy, nil
	case err != nil:
		return nil, p.wrong("%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, p.wrong("there is more than one document in it")
	}
	if err := p.document(&doc); err != nil {
		return nil, err
	}
	return &p.policy, nil
}

type parser struct {
	file   string
	policy Policy
}

func (p *parser) wrong(format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", p.file, fmt.Sprintf(format, args...), navvy.ErrInvalid)
}

// at is wrong with the place.
func (p *parser) at(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s: %w", p.file, n.Line, fmt.Sprintf(format, args...), navvy.ErrInvalid)
}

func (p *parser) document(doc *yaml.Node) error {
	if len(doc.Content) != 1 || isNull(doc.Content[0]) {
		return nil // nothing but comments
	}
	return p.mapping(doc.Content[0], "the policy", map[string]func(*yaml.Node) error{
		"local": func(n *yaml.Node) (err error) {
			word, err := p.word(n, "local", string(User), string(Admin))
			p.policy.local = Role(word)
			return err
		},
		"roles": func(n *yaml.Node) error {
			return p.mapping(n, "roles", map[string]func(*yaml.Node) error{string(User): p.role(User), string(Admin): p.role(Admin)})
		},
	})
}

// role reads the rules of a role.
func (p *parser) role(role Role) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		r := &rules{}
		p.policy.rules[role] = r
		defaults := p.limits(&r.defaults)
		defaults["network"] = func(n *yaml.Node) (err error) {
			r.network, err = p.word(n, "network", navvy.NetworkHost, navvy.NetworkNone)
			return err
		}
		sections := map[string]map[string]func(*yaml.Node) error{
			"defaults": defaults, "ceilings": p.limits(&r.ceilings), "require": p.require(r),
		}
		keys := map[string]func(*yaml.Node) error{"isolate": func(n *yaml.Node) error {
			word, err := p.word(n, "isolate", string(IsolateOn), string(IsolateChoose), string(IsolateOff))
			r.isolate = Isolation(word)
			return err
		}}
		keys["images"] = p.patterns("images", "the reference of an image", &r.images)
		keys["namespaces"] = p.patterns("namespaces", "the name of a namespace", &r.namespaces)
		for name, section := range sections {
			keys[name] = func(n *yaml.Node) error { return p.mapping(n, name, section) }
		}
		if err := p.mapping(n, "role "+string(role), keys); err != nil {
			return err
		}
		return p.agree(n, role, r)
	}
}

// require reads what jobs must have.
func (p *parser) require(r *rules) map[string]func(*yaml.Node) error {
	return map[string]func(*yaml.Node) error{
		"isolate": func(n *yaml.Node) error {
			word, err := p.word(n, "isolate", "true", "false")
			r.require.isolate = word == "true"
			return err
		},
		"network": func(n *yaml.Node) (err error) {
			r.require.network, err = p.word(n, "network", navvy.NetworkHost, navvy.NetworkNone)
			return err
		},
	}
}

// agree checks the defaults of a role against its own ceilings.
func (p *parser) agree(n *yaml.Node, role Role, r *rules) error {
	s := r.defaults
	s.Network = r.network
	if err := p.policy.Apply(role, &s); err != nil {
		message, _, _ := strings.Cut(err.Error(), ";")
		return p.at(n, "what role %s has by default it may not ask for: %s", role, message)
	}
	return nil
}

// limits are the readers of all limits, by their keys.
func (p *parser) limits(s *navvy.Spec) map[string]func(*yaml.Node) error {
	keys := map[string]func(*yaml.Node) error{
		"ulimit": func(n *yaml.Node) error { return p.ulimits(n, &s.Limits.Ulimits) },
	}
	for i := range fields {
		f := &fields[i]
		keys[f.name] = func(n *yaml.Node) error {
			text, err := p.scalar(n, f.name)
			if err != nil {
				return err
			}
			value, err := f.parse(text)
			if err != nil {
				return p.at(n, "%s: %s", f.name, why(err))
			}
			if value <= 0 {
				return p.at(n, "%s: %s: want more than 0; without the key there is no limit", f.name, text)
			}
			*f.of(s) = value
			alone := navvy.Spec{}
			*f.of(&alone) = value
			if err := alone.Limits.Validate(); err != nil {
				return p.at(n, "%s", why(err))
			}
			return nil
		}
	}
	return keys
}

// ulimits reads a list of NAME=SOFT[:HARD], or a single one.
func (p *parser) ulimits(n *yaml.Node, list *[]navvy.Ulimit) error {
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		nodes = n.Content
	}
	for _, n := range nodes {
		text, err := p.scalar(n, "ulimit")
		if err != nil {
			return err
		}
		u, err := quantity.ParseUlimit(text)
		switch {
		case err != nil:
			return p.at(n, "ulimit: %s", why(err))
		case ulimit(*list, u.Name) != nil:
			return p.at(n, "ulimit: %s is given twice", u.Name)
		}
		*list = append(*list, u)
	}
	return nil
}

// why is an error without its sentinel.
func why(err error) string { return strings.TrimSuffix(err.Error(), ": "+navvy.ErrInvalid.Error()) }

// mapping hands each value of a mapping to the reader of its key.
func (p *parser) mapping(n *yaml.Node, what string, keys map[string]func(*yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return p.at(n, "%s: want keys with values, each on a line of its own", what)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read := keys[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode || read == nil:
			return p.at(key, "%s has no key %q%s", what, short(key.Value), meant(key.Value, keys))
		case seen[key.Value]:
			return p.at(key, "%s: the key %s is there twice", what, key.Value)
		}
		seen[key.Value] = true
		if err := read(value); err != nil {
			return err
		}
	}
	return nil
}

// scalar is the text of a value.
func (p *parser) scalar(n *yaml.Node, what string) (string, error) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return "", p.at(n, "%s: want the value itself, without & or *", what)
	case n.Kind != yaml.ScalarNode:
		return "", p.at(n, "%s: want one value", what)
	case isNull(n):
		return "", p.at(n, "%s has no value", what)
	}
	return n.Value, nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// word reads one of some words.
func (p *parser) word(n *yaml.Node, what string, words ...string) (string, error) {
	text, err := p.scalar(n, what)
	if err == nil && !slices.Contains(words, text) {
		err = p.at(n, "%s: %q: want %s", what, short(text), strings.Join(words, " or "))
	}
	if err != nil {
		return "", err
	}
	return text, nil
}

// short keeps a text of the file from filling a screen.
func short(text string) string {
	const most = 60
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
