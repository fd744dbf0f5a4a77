package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/pickle"
	"github.com/navvy-run/navvy/server/auth"
)

// functions implements the Functions service.
type functions struct {
	navvyv1.UnimplementedFunctionsServer
	*Server
}

// maxVersions is how many versions of functions an owner may have.
const maxVersions = 10_000

// maxFunctionBytes is how much code an owner's functions may have together.
const maxFunctionBytes = 256 << 20

// Register implements the call of that name.
func (s *functions) Register(ctx context.Context, req *navvyv1.FunctionsRegisterRequest) (*navvyv1.FunctionVersion, error) {
	f, err := s.register(ctx, &navvy.FunctionVersion{
		Owner: auth.From(ctx).Name, Name: req.GetName(), Form: navvy.FunctionForm(req.GetForm()), Code: req.GetCode(),
		Entry: req.GetEntry(), Python: req.GetPython(), Pickler: req.GetPickler(),
	})
	if err != nil {
		return nil, s.fail(err)
	}
	return api.FromFunctionVersion(f), nil
}

func (s *functions) register(ctx context.Context, f *navvy.FunctionVersion) (*navvy.FunctionVersion, error) {
	auth.Note(ctx, slog.String("function", f.Name))
	if err := f.Validate(); err != nil {
		return nil, err
	}
	if f.Form == navvy.FormPickle {
		if err := pickle.Validate(f.Code); err != nil {
			return nil, fmt.Errorf("function %s: %w", f.Name, err)
		}
	}
	if err := s.eng.Room(); err != nil {
		return nil, err
	}
	s.registering.Lock()
	defer s.registering.Unlock()
	newest, count, ids := "", 0, []string(nil)
	err := s.versions(ctx, f.Owner, "", "", func(e *engine.Entry, name string, version int) error {
		count++
		id := string(e.Value)
		if id != "" {
			ids = append(ids, id)
		}
		if name == f.Name {
			if f.Version = version; id != "" {
				newest = id
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if newest != "" {
		if known, err := s.registered(ctx, newest); err != nil {
			return nil, err
		} else if known.same(f) {
			return known.function(newest), nil
		}
	}
	if count >= maxVersions {
		return nil, fmt.Errorf("function %s: %s has %d versions of functions, and no more may be: remove old ones: %w", f.Name, f.Owner, count, navvy.ErrExhausted)
	}
	if err := s.roomFor(ctx, f, ids); err != nil {
		return nil, err
	}
	f.Version++
	return s.keepFunction(ctx, f)
}

// roomFor refuses a function whose code, with that of its owner's others, would be too
// much. The caller holds the lock.
func (s *functions) roomFor(ctx context.Context, f *navvy.FunctionVersion, others []string) error {
	if len(others) < maxFunctionBytes/navvy.MaxFunctionCode {
		return nil // however large they are
	}
	sum := len(f.Code)
	for _, id := range others {
		r, err := s.registered(ctx, id)
		if err != nil {
			return err
		}
		sum += r.Size
	}
	if sum > maxFunctionBytes {
		return fmt.Errorf("function %s: the functions of %s would take %d MiB, more than %d: remove old versions: %w", f.Name, f.Owner, sum>>20, maxFunctionBytes>>20, navvy.ErrExhausted)
	}
	return nil
}

// registered reads a record; the caller holds the lock.
func (s *functions) registered(ctx context.Context, id string) (*functionRecord, error) {
	entry, err := s.eng.Registry().Get(ctx, engine.KindFunction, id)
	if err != nil {
		return nil, err
	}
	return decodeRecord[functionRecord](&entry)
}

// keepFunction makes a version durable. The caller holds the lock.
func (s *functions) keepFunction(ctx context.Context, f *navvy.FunctionVersion) (*navvy.FunctionVersion, error) {
	r := &functionRecord{
		Version: recordVersion, Owner: f.Owner, Name: f.Name, Number: f.Version, Form: string(f.Form), Entry: f.Entry,
		Python: f.Python, Pickler: f.Pickler, Created: s.opts.Clock().UTC(), Size: len(f.Code), CodeHash: hashOf(f.Code),
	}
	value, err := encodeRecord(r)
	if err != nil {
		return nil, err
	}
	id := newUUID()
	err = s.eng.Registry().Apply(ctx,
		engine.Change{Kind: engine.KindFunction, Name: id, Value: value, IfAbsent: true},
		engine.Change{Kind: engine.KindFunctionCode, Name: id, Value: f.Code},
		engine.Change{Kind: engine.KindFunctionName, Name: functionKey(f.Owner, f.Name, f.Version), Value: []byte(id), IfAbsent: true},
	)
	if err != nil {
		return nil, err
	}
	return r.function(id), nil
}

// newUUID makes a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return navvy.UUID(b)
}

// Get implements the call of that name.
func (s *functions) Get(ctx context.Context, req *navvyv1.FunctionsGetRequest) (*navvyv1.FunctionVersion, error) {
	f, err := s.get(ctx, req)
	if err != nil {
		return nil, s.fail(err)
	}
	return api.FromFunctionVersion(f), nil
}

func (s *functions) get(ctx context.Context, req *navvyv1.FunctionsGetRequest) (*navvy.FunctionVersion, error) {
	id, err := s.findFunction(ctx, auth.From(ctx).Name, req.GetId(), int(req.GetVersion()))
	if err != nil {
		return nil, err
	}
	return s.withCode(ctx, id, !req.GetBrief())
}

// withCode gives a version, which may be removed meanwhile: ErrNotFound.
func (s *Server) withCode(ctx context.Context, id string, code bool) (*navvy.FunctionVersion, error) {
	r, err := s.functionRecord(ctx, id)
	if err != nil {
		return nil, err
	}
	f := r.function(id)
	if code {
		entry, err := s.eng.Registry().Get(ctx, engine.KindFunctionCode, id)
		if err != nil {
			return nil, err
		}
		f.Code = entry.Value
	}
	return f, nil
}

// functionsPage is how many functions there are on a page, and may be.
const functionsPage = 1_000

// List implements the call of that name.
func (s *functions) List(ctx context.Context, req *navvyv1.FunctionsListRequest) (*navvyv1.FunctionsListResponse, error) {
	resp, err := s.list(ctx, req)
	return resp, s.fail(err)
}

func (s *functions) list(ctx context.Context, req *navvyv1.FunctionsListRequest) (*navvyv1.FunctionsListResponse, error) {
	limit := int(req.GetLimit())
	if limit < 0 {
		return nil, fmt.Errorf("functions: limit %d: want 0 or more: %w", limit, navvy.ErrInvalid)
	}
	if limit == 0 || limit > functionsPage {
		limit = functionsPage
	}
	owner, after := auth.From(ctx).Name, ""
	if page := req.GetPage(); page != "" {
		text, err := hex.DecodeString(page)
		if err != nil || len(text) > engine.MaxEntryName {
			return nil, fmt.Errorf("functions: page %.100q is none that was given out: %w", page, navvy.ErrInvalid)
		}
		after = functionPrefix(owner, "") + string(text)
	}
	resp := &navvyv1.FunctionsListResponse{}
	l := lister{functions: s, resp: resp, limit: limit, all: req.GetName() != "", owner: owner}
	err := s.live(ctx, owner, req.GetName(), after, l.visit(ctx))
	if err == nil {
		err = l.add(ctx)
	}
	if err != nil && !errors.Is(err, engine.ErrStop) {
		return nil, err
	}
	if req.GetName() != "" && len(resp.Functions) == 0 && after == "" {
		return nil, noFunction(req.GetName())
	}
	return resp, nil
}

// lister makes a page of functions.
type lister struct {
	*functions
	resp  *navvyv1.FunctionsListResponse
	limit int
	all   bool // versions, not only the newest
	owner string

	last     engine.Entry // which is the newest of its name, until another comes
	lastName string
	listed   string // the entry that is the last on the page
}

func (l *lister) visit(ctx context.Context) func(*engine.Entry, string, int) error {
	return func(e *engine.Entry, name string, _ int) error {
		if l.lastName != "" && (l.all || l.lastName != name) {
			if err := l.add(ctx); err != nil {
				return err
			}
		}
		l.last, l.lastName = *e, name
		return nil
	}
}

// add puts the last entry onto the page, which may be full then: ErrStop, once another comes.
func (l *lister) add(ctx context.Context) error {
	if l.lastName == "" {
		return nil
	}
	if len(l.resp.GetFunctions()) == l.limit {
		l.resp.NextPage = hex.EncodeToString([]byte(l.listed[len(functionPrefix(l.owner, "")):]))
		return engine.ErrStop
	}
	f, err := l.withCode(ctx, string(l.last.Value), false)
	if errors.Is(err, navvy.ErrNotFound) {
		return nil // it was removed meanwhile
	} else if err != nil {
		return err
	}
	l.resp.Functions, l.listed = append(l.resp.Functions, api.FromFunctionVersion(f)), l.last.Name
	return nil
}

// Remove implements the call of that name.
func (s *functions) Remove(ctx context.Context, req *navvyv1.FunctionsRemoveRequest) (*navvyv1.FunctionsRemoveResponse, error) {
	n, err := s.remove(ctx, auth.From(ctx).Name, req.GetId(), int(req.GetVersion()))
	if err != nil {
		return nil, s.fail(err)
	}
	return &navvyv1.FunctionsRemoveResponse{Removed: int32(n)}, nil
}

func (s *functions) remove(ctx context.Context, owner, name string, version int) (removed int, err error) {
	auth.Note(ctx, slog.String("function", name))
	id, err := s.findFunction(ctx, owner, name, version)
	if err != nil {
		return 0, err
	}
	s.registering.Lock()
	defer s.registering.Unlock()
	if id != name && version == 0 {
		id = "" // all of them
	} else if r, err := s.registered(ctx, id); err != nil {
		return 0, err
	} else {
		name = r.Name
	}
	var gone []engine.Entry // of versions that go, and of what keeps numbers of earlier ones
	left, last := 0, ""
	err = s.versions(ctx, owner, name, "", func(e *engine.Entry, _ string, _ int) error {
		if last = e.Name; len(e.Value) > 0 && id != "" && string(e.Value) != id {
			left++
			return nil
		}
		gone = append(gone, *e)
		return nil
	})
	for i := 0; err == nil && i < len(gone); i++ {
		if len(gone[i].Value) > 0 {
			removed++
		}
		err = s.removeVersion(ctx, &gone[i], left > 0 && gone[i].Name == last)
	}
	return removed, err
}

// removeVersion removes the version that is registered under a name, and with keep leaves
// the name, without a version, so that its number is not given to another one. The caller
// holds the lock.
func (s *functions) removeVersion(ctx context.Context, e *engine.Entry, keep bool) error {
	id := string(e.Value)
	changes := []engine.Change{{Kind: engine.KindFunctionName, Name: e.Name, Delete: !keep}}
	if id != "" {
		changes = append(changes, engine.Change{Kind: engine.KindFunction, Name: id, Delete: true}, engine.Change{Kind: engine.KindFunctionCode, Name: id, Delete: true})
	}
	err := s.eng.Registry().Apply(ctx, changes...)
	s.known.forget(id)
	return err
}

// resolve finds the function that a job names.
func (s *Server) resolve(ctx context.Context, job *navvy.Job) error {
	f := job.Spec.Function
	if f == nil {
		return nil
	}
	id, err := f.ID, error(nil)
	if id == "" {
		if id, err = s.findFunction(ctx, job.Owner, f.Name, f.Version); err != nil {
			return fmt.Errorf("submit: %w", err)
		}
	}
	r, err := s.ownFunction(ctx, job.Owner, id)
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	f.ID, f.Name, f.Version = id, r.Name, r.Number
	if f.Encoding == "" {
		f.Encoding = navvy.EncodingPickle
	}
	if job.Name == "" {
		job.Name = r.Name
	}
	return nil
}

// Function implements the call of that name.
func (s *workers) Function(ctx context.Context, req *navvyv1.WorkersFunctionRequest) (*navvyv1.FunctionVersion, error) {
	f, err := s.function(ctx, req.GetAttempt())
	if err != nil {
		return nil, s.fail(err)
	}
	return api.FromFunctionVersion(f), nil
}

func (s *workers) function(ctx context.Context, attempt *navvyv1.AttemptRef) (*navvy.FunctionVersion, error) {
	if attempt == nil {
		return nil, fmt.Errorf("a function for no attempt: %w", navvy.ErrInvalid)
	}
	var ref manager.Ref
	ref.Task, ref.Attempt = api.ToRef(attempt)
	if _, _, err := s.mgr.Leased(workerName(ctx, ""), ref); err != nil {
		return nil, err
	}
	job, _, err := s.mgr.Job(ctx, ref.Task.Job)
	if err != nil {
		return nil, err
	}
	if job.Spec.Function == nil {
		return nil, fmt.Errorf("task %s calls no function: %w", ref.Task, navvy.ErrInvalid)
	}
	f, err := s.withCode(ctx, job.Spec.Function.ID, true)
	if errors.Is(err, navvy.ErrNotFound) || err == nil && f.Owner != job.Owner {
		return nil, noFunction(job.Spec.Function.Name)
	}
	return f, err
}
