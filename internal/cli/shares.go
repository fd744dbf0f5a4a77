package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/place"
)

// shareConfig is a share that has a name.
type shareConfig struct {
	URL string `yaml:"url"`
}

// sharesFile is shares.yaml: shares by name.
type sharesFile struct {
	Shares map[string]shareConfig `yaml:"shares,omitempty"`
}

const (
	sharesName = "shares.yaml" // of the file in configDir
	// defaultShare is the share that there is without any configuration: the caller's files
	// in the data directory, or of the server.
	defaultShare = "default"
)

// loadShares reads the file; an empty one if there is none, and no place for one.
func (a *app) loadShares() (sharesFile, error) {
	dir, err := a.configDir()
	if err != nil {
		return sharesFile{}, nil //nolint:nilerr // the default share needs no configuration
	}
	return readShares(filepath.Join(dir, sharesName))
}

func readShares(path string) (sharesFile, error) {
	f := sharesFile{}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	} else if err != nil {
		return f, &usageError{err}
	}
	if err = parseConfig(text, &f); err == nil {
		for name := range f.Shares {
			err = errors.Join(err, place.CheckName(name))
		}
	}
	if err != nil && strings.Contains(err.Error(), "@") { // a URL at the wrong place, with its password
		err = errors.New("it does not say NAME: {url: URL} of each share, below shares")
	}
	if err != nil {
		return f, withHint(usagef("%s: %w", path, err), "mend the file, or remove it and add its shares again: navvy share add --help")
	}
	return f, nil
}

// errNoFiles says that nobody has put anything into the default share yet.
var errNoFiles = fmt.Errorf("there are no files in share %s yet: %w", defaultShare, navvy.ErrNotFound)

// openShare opens the share of a place. With create, the default share is made.
func (a *app) openShare(ctx context.Context, p place.Place, create bool) (*share.Share, error) {
	at := p.URL
	if at == "" {
		file, err := a.loadShares()
		if err != nil {
			return nil, err
		}
		if at = file.Shares[p.Name].URL; at == "" && p.Name == defaultShare {
			return a.openDefaultShare(ctx, create)
		} else if at == "" {
			return nil, noShare(p.Name, &file)
		}
	}
	s, err := share.Open(ctx, at, &share.Options{AzureConnection: a.env("AZURE_STORAGE_CONNECTION_STRING")})
	return s, shareHint(err)
}

func noShare(name string, file *sharesFile) error {
	names := slices.Sorted(maps.Keys(file.Shares))
	err := usagef("there is no share %q", name)
	if len(names) == 0 {
		return withHint(err, "add it: navvy share add %s URL; without that there is the share %s", name, defaultShare)
	}
	return withHint(err, "there are: %s; add it with: navvy share add %s URL", strings.Join(names, ", "), name)
}

// openDefaultShare opens the caller's files: those of the server, or in the data directory.
// Who looks does not make it.
func (a *app) openDefaultShare(ctx context.Context, create bool) (*share.Share, error) {
	if t, err := a.target(); err != nil {
		return nil, err
	} else if t != nil {
		return a.openServerShare(ctx)
	}
	path, err := a.dataPath()
	if err != nil {
		return nil, err
	}
	if !holder.HasFiles(path, owner()) && !create {
		return nil, withHint(errNoFiles, "put one: navvy share put FILE share://%s/", defaultShare)
	}
	dir, err := a.dir() // closed to others, with all that is in it
	if err != nil {
		return nil, err
	}
	return dir.OpenFiles(owner())
}

// shareHint says what can be done about an error.
func shareHint(err error) error {
	if _, ok := errors.AsType[*hintError](err); ok || err == nil {
		return err
	}
	if special, ok := errors.AsType[*share.NotRegular](err); ok {
		return withHint(err, "leave such files out with --skip-links, or put a copy in the place of %s", special.Path)
	}
	if missing, ok := errors.AsType[*share.Missing](err); ok && missing.Kind == "directory" {
		return withHint(err, "make it: mkdir -p %s, or mount what it is in", missing.Name)
	} else if ok {
		return withHint(err, "make the %s with the tools of its store, or mend the URL of the share; navvy share ls shows it", missing.Kind)
	}
	if own, ok := errors.AsType[*share.Local](err); ok {
		return localHint(err, own)
	}
	switch {
	case errors.Is(err, navvy.ErrCorrupt):
		return withHint(err, "what the store has is not what was put: put the file again")
	case errors.Is(err, navvy.ErrExhausted):
		return withHint(err, "the disk or the store is full: make room and do it again, what was copied stays")
	case errors.Is(err, navvy.ErrUnavailable):
		return withHint(err, "see whether the store runs at the address of the share; navvy share ls shows it")
	case errors.Is(err, navvy.ErrDenied):
		return withHint(err, "see docs/share.md for whose credentials are used, and who may read and write a directory")
	case errors.Is(err, navvy.ErrExists):
		return withHint(err, "without --if-absent it is replaced")
	case errors.Is(err, navvy.ErrNotFound):
		return withHint(err, "navvy share ls lists the shares, and navvy share ls PLACE their files")
	}
	return err
}

// localHint says what can be done about a file of this machine.
func localHint(err error, own *share.Local) error {
	changed := own.Verb != "read" && own.Verb != "list" // then it is about the folder
	switch {
	case errors.Is(err, navvy.ErrExhausted):
		return withHint(err, "the disk is full: make room and do it again, what was copied stays")
	case errors.Is(err, navvy.ErrNotFound) && changed:
		return withHint(err, "make the folder: mkdir -p %s", filepath.Dir(own.Path))
	case errors.Is(err, navvy.ErrDenied) && changed:
		return withHint(err, "see who may write there: ls -ld %s", filepath.Dir(own.Path))
	case errors.Is(err, navvy.ErrDenied):
		return withHint(err, "see who may read it: ls -ld %s", own.Path)
	}
	return err
}

// parsePlace reads an argument that must be a place.
func parsePlace(text string) (place.Place, error) {
	if !place.Is(text) {
		shown := strconv.Quote(text)
		if strings.Contains(text, "@") { // somebody's password may stand before it
			shown = "what is given"
		}
		return place.Place{}, withHint(usagef("%s is no place in a share", shown), "write share://NAME/PATH; navvy share ls lists the names")
	}
	if err := noPassword(text); err != nil {
		return place.Place{}, err
	}
	p, err := place.Parse(text)
	if err != nil {
		return place.Place{}, &usageError{err}
	}
	return p, nil
}

// noPassword refuses an argument with a password in it.
func noPassword(text string) error {
	if !place.HasPassword(text) {
		return nil
	}
	return withHint(usagef("everybody on this machine can see a password in an argument"), "put the URL into a file, and give the share a name: navvy share add NAME --url-file FILE")
}

// shareURL is the URL of a share for people.
func shareURL(text string) string {
	u, err := place.ParseURL(text)
	if err != nil {
		return "(no URL)"
	}
	return place.Redacted(u)
}

// addShare gives a share a name. Nobody is asked whether it is there.
func (a *app) addShare(ctx context.Context, name, at string, force bool) error {
	if err := place.CheckName(name); err != nil {
		return &usageError{err}
	}
	s, err := share.Open(ctx, at, &share.Options{AzureConnection: a.env("AZURE_STORAGE_CONNECTION_STRING")})
	if _, missing := errors.AsType[*share.Missing](err); missing {
		return &usageError{shareHint(err)}
	} else if err != nil {
		return shareHint(err)
	}
	if err := s.Close(); err != nil {
		return err
	}
	return a.changeConfig(sharesName, func(path string) (any, error) {
		f, err := readShares(path)
		if err != nil {
			return nil, err
		}
		if old, ok := f.Shares[name]; ok && old.URL != at && !force {
			return nil, withHint(fmt.Errorf("there is a share %s already, at %s: %w", name, shareURL(old.URL), navvy.ErrConflict), "replace it with --force, or take another name")
		}
		if f.Shares == nil {
			f.Shares = map[string]shareConfig{}
		}
		f.Shares[name] = shareConfig{URL: at}
		return &f, nil
	})
}

func (a *app) forgetShares(names []string) error {
	return a.changeConfig(sharesName, func(path string) (any, error) {
		f, err := readShares(path)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if _, ok := f.Shares[name]; !ok {
				return nil, noShare(name, &f)
			}
			delete(f.Shares, name)
		}
		return &f, nil
	})
}
