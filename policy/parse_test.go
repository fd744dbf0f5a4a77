package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
)

func TestMistakes(t *testing.T) {
	t.Parallel()
	user := func(lines string) string { return "roles:\n  user:\n    ceilings:\n" + lines }
	for text, want := range map[string]string{
		user("      memroy: 1G"):                               `policy.yaml:4: ceilings has no key "memroy"; did you mean memory?`,
		user("      pids: 5"):                                  `policy.yaml:4: ceilings has no key "pids"; did you mean pids-limit?`,
		user("      output_limit: 5"):                          `policy.yaml:4: ceilings has no key "output_limit"; did you mean output-limit?`,
		user("      isolate: true"):                            `policy.yaml:4: ceilings has no key "isolate", only `,
		user("      memory: 5x"):                               `policy.yaml:4: memory: 5x: want a size such as 512M`,
		user("      memory: 1k"):                               `policy.yaml:4: limit memory: 1024 bytes are too few`,
		user("      cpus: 1.5001"):                             `policy.yaml:4: cpus: 1.5001: want a number of cores`,
		user("      memory: 0"):                                `policy.yaml:4: memory: 0: want more than 0; without the key there is no limit`,
		user("      memory:"):                                  `policy.yaml:4: memory has no value`,
		user("      memory: [1G]"):                             `policy.yaml:4: memory: want one value`,
		user("      timeout: soon"):                            `policy.yaml:4: timeout: soon: want a time span`,
		user("      timeout: -5"):                              `policy.yaml:4: timeout: -5: want more than 0`,
		user("      ulimit: files=1"):                          `policy.yaml:4: ulimit: files=1: there is no ulimit files, only as, `,
		user("      ulimit: [core=0, core=1]"):                 `policy.yaml:4: ulimit: core is given twice`,
		user("      cpus: 1\n      memory: 1G\n      cpus: 2"): `policy.yaml:6: ceilings: the key cpus is there twice`,
		user("      memory: &m 1G\n      output-limit: *m"):    `policy.yaml:4: memory: want the value itself, without & or *`,
		user("      <<: {memory: 1G}"):                         `policy.yaml:4: ceilings has no key "<<", only `,
		user("      [1]: 1G"):                                  `policy.yaml:4: ceilings has no key "", only `,
		"role: {}":                                             `policy.yaml:1: the policy has no key "role"; did you mean roles?`,
		"roles:\n  users: {}":                                  `policy.yaml:2: roles has no key "users"; did you mean user?`,
		"roles:\n  guest: {}":                                  `policy.yaml:2: roles has no key "guest", only admin, user`,
		"roles: [user]":                                        `policy.yaml:1: roles: want keys with values`,
		"local: root":                                          `policy.yaml:1: local: "root": want user or admin`,
		"roles:\n  user:\n    require: {isolate: yes}":         `policy.yaml:3: isolate: "yes": want true or false`,
		"roles:\n  user:\n    require: {network: bridge}":      `policy.yaml:3: network: "bridge": want host or none`,
		"roles:\n  user:\n    defaults: {network: host}\n    require: {network: none}": `policy.yaml:3: what role user has by default it may not ask for: network host is not for jobs of role user`,
		"roles:\n  user:\n    defaults: {memory: 2G}\n    ceilings: {memory: 1G}":      `policy.yaml:3: what role user has by default it may not ask for: memory 2.0 GiB is above the ceiling`,
		"roles: {":                       `policy.yaml: line `,
		"local: user\n---\n{}":           `policy.yaml: there is more than one document in it`,
		"\tlocal: user":                  `policy.yaml: `,
		strings.Repeat("#", 2<<20):       `policy.yaml: it has more than 1 MiB`,
		strings.Repeat("k", 300) + ": 1": `policy.yaml:1: the policy has no key "`,
	} {
		_, err := Parse("policy.yaml", []byte(text))
		if !errors.Is(err, navvy.ErrInvalid) || !strings.HasPrefix(err.Error(), want) || len(err.Error()) > 400 {
			t.Errorf("%.80q: %v\nwant %s", text, err, want)
		}
	}
}

// FuzzParse gives foreign files to the parser: it refuses them with ErrInvalid, or
// makes a policy that is fine with what it has made of a spec.
func FuzzParse(f *testing.F) {
	f.Add(example(f), int64(1<<30))
	f.Add([]byte("local: user"), int64(0))
	f.Add([]byte("roles: {user: {defaults: {memory: 1G, ulimit: core=0}, require: {isolate: true}}}"), int64(5))
	f.Add([]byte("a: &a [*a]"), int64(-1))
	f.Fuzz(func(t *testing.T, text []byte, asked int64) {
		p, err := Parse("policy.yaml", text)
		if err != nil {
			if !errors.Is(err, navvy.ErrInvalid) {
				t.Fatalf("%v is not ErrInvalid", err)
			}
			return
		}
		for _, role := range []Role{User, Admin} {
			s := navvy.Spec{Limits: navvy.Limits{Memory: asked, CPUShares: asked}}
			if err := p.Apply(role, &s); err != nil {
				if !errors.Is(err, navvy.ErrDenied) {
					t.Fatalf("%v is not ErrDenied", err)
				}
				continue
			}
			again := s
			if err := p.Apply(role, &again); err != nil || !cmp.Equal(s, again) {
				t.Fatalf("%+v became %+v, %v", s, again, err)
			}
		}
	})
}
