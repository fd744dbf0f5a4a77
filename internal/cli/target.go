package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// remoteFlags name a server, and who we are there.
type remoteFlags struct {
	serverContext
	context string
}

// target is the server that a verb is to speak with.
type target struct {
	serverContext
	name string            // of the context that it comes from; empty if it comes from none
	said map[string]string // which flag or setting names a file that the context does not
}

// target gives the server that flags, environment and contexts name, in this
// order; nil for the data directory of this machine.
func (a *app) target() (*target, error) {
	flags := a.remote
	env := remoteFlags{serverContext{Server: a.env("NAVVY_SERVER"), Cert: a.env("NAVVY_CERT"), Key: a.env("NAVVY_KEY"), CA: a.env("NAVVY_CA")}, a.env("NAVVY_CONTEXT")}
	if flags.Server != "" && flags.context != "" {
		return nil, usagef("--server and --context exclude each other: both name a server")
	}
	server, context := flags.Server, flags.context
	if server == "" && context == "" {
		if word := a.localFlag(); word != "" {
			return nil, nil //nolint:nilnil // the data directory
		}
		if server, context = env.Server, env.context; context != "" {
			server = "" // a name says more than an address
		}
	} else if word := a.localFlag(); word != "" && context != localContext {
		return nil, usagef("%s names data of this machine, and does not go with a server", word)
	}
	if context == localContext {
		return nil, nil //nolint:nilnil // the data directory
	}
	file, err := a.loadContexts()
	if err != nil {
		return nil, err
	}
	t, err := file.find(server, context, cmp.Or(flags.Cert, env.Cert) != "" && cmp.Or(flags.CA, env.CA) != "")
	if t == nil || err != nil {
		return nil, err
	}
	return t, t.complete(&flags, &env)
}

// localFlag is the flag that names data of this machine; empty if there is none.
func (a *app) localFlag() string {
	switch {
	case a.data != "":
		return "--data"
	case a.store != "":
		return "--store"
	}
	return ""
}

// find gives the context of an address or of a name, else the current one; nil if
// there is none of these. What an address lacks is left to flags; with all, these say
// it, and it does not matter which of several contexts it is.
func (f *contextsFile) find(server, name string, all bool) (*target, error) {
	if server == "" {
		name = cmp.Or(name, f.Current)
		if name == "" {
			return nil, nil //nolint:nilnil // no server
		}
		c, ok := f.Contexts[name]
		if !ok {
			return nil, f.noContext(name)
		}
		return &target{serverContext: c, name: name}, nil
	}
	at, err := parseAddress(server)
	if err != nil {
		return nil, &usageError{err}
	}
	name, err = f.of(at)
	if err != nil && !all {
		return nil, err
	}
	c := f.Contexts[name]
	c.Server = at
	return &target{serverContext: c, name: name}, nil
}

// of is the name of the context of an address: the current one if it has it, else
// the one that the server's own start has made, else the only one; empty if there is
// none. Contexts with one address and the same files are one.
func (f *contextsFile) of(address string) (string, error) {
	var fit, made []string
	for _, name := range slices.Sorted(maps.Keys(f.Contexts)) {
		c := f.Contexts[name]
		if !sameServer(c.Server, address) {
			continue
		}
		if name == f.Current {
			return name, nil
		}
		if c.Data != "" {
			made = append(made, name)
		}
		fit = append(fit, name)
	}
	if len(made) > 0 {
		fit = made
	}
	same := func(name string) bool {
		x, y := f.Contexts[name], f.Contexts[fit[0]]
		return x.Cert == y.Cert && x.Key == y.Key && x.CA == y.CA
	}
	for _, name := range fit {
		if !same(name) {
			err := usagef("several contexts are of server %s: %s", address, strings.Join(fit, ", "))
			return "", withHint(err, "say which with --context NAME")
		}
	}
	return strings.Join(fit[:min(len(fit), 1)], ""), nil
}

func (f *contextsFile) noContext(name string) error {
	err := usagef("there is no context %q", name)
	if len(f.Contexts) == 0 {
		return withHint(err, "add one: navvy context add %s --server ADDR --cert FILE --key FILE --ca FILE", name)
	}
	return withHint(err, "there are: %s", strings.Join(slices.Sorted(maps.Keys(f.Contexts)), ", "))
}

// complete lets flags and environment say what they say, and refuses a target
// that is not complete then. A certificate and its key come from one place.
func (t *target) complete(flags, env *remoteFlags) error {
	t.said = map[string]string{}
	for _, from := range []struct {
		*remoteFlags
		cert, key, ca string
	}{{env, "NAVVY_CERT", "NAVVY_KEY", "NAVVY_CA"}, {flags, "--cert", "--key", "--ca"}} {
		switch {
		case from.Cert != "" && from.Key != "":
			t.Cert, t.Key = from.Cert, from.Key
			t.said[from.Cert], t.said[from.Key] = from.cert, from.key
		case from.Cert != "":
			return usagef("%s needs %s, the file of its key", from.cert, from.key)
		case from.Key != "":
			return usagef("%s needs %s, the file of its certificate", from.key, from.cert)
		}
		if from.CA != "" {
			t.CA, t.said[from.CA] = from.CA, from.ca
		}
	}
	if t.Cert == "" || t.CA == "" {
		return withHint(usagef("nothing says with which certificate to speak with server %s", t.Server),
			"give --cert, --key and --ca, or add them once: navvy context add NAME --server %s --cert FILE --key FILE --ca FILE", t.Server)
	}
	return nil
}

// noFile is the error of a file that a server is reached with.
func (t *target) noFile(err error) error {
	err = fmt.Errorf("server %s: %w", t.Server, err)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if missing, ok := errors.AsType[*fs.PathError](err); ok && t.said[missing.Path] != "" {
		err = withHint(err, "%s names it", t.said[missing.Path])
	} else if t.name != "" {
		err = withHint(err, "context %s names it; see navvy context show %s", t.name, t.name)
	}
	return &usageError{err}
}

// local refuses a server that flags name, for a verb that works on data of this machine.
func (a *app) local(verb string) error {
	if a.remote.Server != "" || a.remote.context != "" && a.remote.context != localContext {
		return usagef("%s works on the data of this machine, and speaks with no server", verb)
	}
	return nil
}
