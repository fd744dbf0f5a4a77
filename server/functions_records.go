package server

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// functionRecord is what is known of a version of a function, registered by its id; its
// code is registered beside it, and its id by its owner, name and version.
type functionRecord struct {
	Version int `json:"version"`

	Owner    string    `json:"owner"`
	Name     string    `json:"name"`
	Number   int       `json:"number"` // the function's version
	Form     string    `json:"form"`
	Entry    string    `json:"entry,omitempty"`
	Python   string    `json:"python,omitempty"`
	Pickler  string    `json:"pickler,omitempty"`
	Created  time.Time `json:"created"`
	Size     int       `json:"size"`
	CodeHash string    `json:"code_hash"`
}

func (r *functionRecord) function(id string) *navvy.FunctionVersion {
	return &navvy.FunctionVersion{
		ID: id, Owner: r.Owner, Name: r.Name, Version: r.Number, Form: navvy.FunctionForm(r.Form), Entry: r.Entry,
		Python: r.Python, Pickler: r.Pickler, Created: r.Created, Size: r.Size,
	}
}

// same tells whether a record is of what somebody registers.
func (r *functionRecord) same(f *navvy.FunctionVersion) bool {
	return r.Form == string(f.Form) && r.Entry == f.Entry && r.Python == f.Python && r.Pickler == f.Pickler && r.CodeHash == hashOf(f.Code)
}

func hashOf(code []byte) string {
	sum := sha256.Sum256(code)
	return hex.EncodeToString(sum[:])
}

// functionPrefix begins the names under which an owner's functions are registered, or
// the versions of one of them.
func functionPrefix(owner, name string) string {
	if name == "" {
		return owner + "\x00"
	}
	return owner + "\x00" + name + "\x00"
}

func functionKey(owner, name string, version int) string {
	return functionPrefix(owner, name) + string(binary.BigEndian.AppendUint32(nil, uint32(version)))
}

// splitFunctionKey is the inverse of functionKey, for an owner that is known.
func splitFunctionKey(owner, key string) (name string, version int, ok bool) {
	rest, ok := strings.CutPrefix(key, functionPrefix(owner, ""))
	if at := len(rest) - 5; ok && at > 0 && rest[at] == 0 {
		return rest[:at], int(binary.BigEndian.Uint32([]byte(rest[at+1:]))), true
	}
	return "", 0, false
}

// functionCache remembers whose functions are, for the many calls of a few of them.
type functionCache struct {
	mu   sync.Mutex
	byID map[string]*functionRecord
}

// maxCachedFunctions bounds a functionCache, which then begins anew.
const maxCachedFunctions = 10_000

func (c *functionCache) get(id string) *functionRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byID[id]
}

func (c *functionCache) put(id string, r *functionRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID == nil || len(c.byID) >= maxCachedFunctions {
		c.byID = map[string]*functionRecord{}
	}
	c.byID[id] = r
}

func (c *functionCache) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byID, id)
}

// functionRecord reads what is known of a version, whosever it is; ErrNotFound if there is none.
func (s *Server) functionRecord(ctx context.Context, id string) (*functionRecord, error) {
	if r := s.known.get(id); r != nil {
		return r, nil
	}
	s.registering.RLock() // so that what is being removed is not remembered
	defer s.registering.RUnlock()
	entry, err := s.eng.Registry().Get(ctx, engine.KindFunction, id)
	if err != nil {
		return nil, err
	}
	r, err := decodeRecord[functionRecord](&entry)
	if err == nil {
		s.known.put(id, r)
	}
	return r, err
}

func noFunction(name string) error {
	return fmt.Errorf("function %.100s: %w", name, navvy.ErrNotFound)
}

// ownFunction gives the record of an owner's function; ErrNotFound if it is somebody else's.
func (s *Server) ownFunction(ctx context.Context, owner, id string) (*functionRecord, error) {
	if id == "" || len(id) > engine.MaxEntryName {
		return nil, noFunction(id)
	}
	r, err := s.functionRecord(ctx, id)
	if errors.Is(err, navvy.ErrNotFound) || err == nil && r.Owner != owner {
		return nil, noFunction(id)
	}
	return r, err
}

// findFunction gives the id of an owner's function by its id or its name; version is 0
// for the newest.
func (s *Server) findFunction(ctx context.Context, owner, name string, version int) (string, error) {
	r, err := s.ownFunction(ctx, owner, name)
	if err == nil && (version == 0 || version == r.Number) {
		return name, nil
	} else if err != nil && !errors.Is(err, navvy.ErrNotFound) {
		return "", err
	}
	if navvy.ValidateFunctionName(name) != nil || version < 0 {
		return "", noFunction(name)
	}
	if version > 0 {
		entry, err := s.eng.Registry().Get(ctx, engine.KindFunctionName, functionKey(owner, name, version))
		if errors.Is(err, navvy.ErrNotFound) || err == nil && len(entry.Value) == 0 {
			return "", noFunction(fmt.Sprintf("%s, version %d", name, version))
		}
		return string(entry.Value), err
	}
	id, err := s.newestFunction(ctx, owner, name)
	if err == nil && id == "" {
		err = noFunction(name)
	}
	return id, err
}

// newestFunction gives the id of a function's newest version; empty if there is none.
func (s *Server) newestFunction(ctx context.Context, owner, name string) (id string, err error) {
	err = s.live(ctx, owner, name, "", func(e *engine.Entry, _ string, _ int) error {
		id = string(e.Value)
		return nil
	})
	return id, err
}

// live is versions without the names of which only the number is kept.
func (s *Server) live(ctx context.Context, owner, name, after string, fn func(e *engine.Entry, name string, version int) error) error {
	return s.versions(ctx, owner, name, after, func(e *engine.Entry, name string, version int) error {
		if len(e.Value) == 0 {
			return nil
		}
		return fn(e, name, version)
	})
}

// versions calls fn for the versions of an owner's function, or of all of them if name is
// empty, by name and number, from the one behind after on; also for a removed one whose
// number is kept, which has no value.
func (s *Server) versions(ctx context.Context, owner, name, after string, fn func(e *engine.Entry, name string, version int) error) error {
	for {
		list, next, err := s.eng.Registry().List(ctx, engine.KindFunctionName, functionPrefix(owner, name), after, registryPage)
		if err != nil {
			return err
		}
		for i := range list {
			name, version, ok := splitFunctionKey(owner, list[i].Name)
			if !ok {
				return fmt.Errorf("registered %s %q: %w", engine.KindFunctionName, list[i].Name, navvy.ErrCorrupt)
			}
			if err := fn(&list[i], name, version); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		after = next
	}
}
