package server_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// source is a function of somebody's.
func source(name, code string) *navvy.FunctionVersion {
	return &navvy.FunctionVersion{Name: name, Form: navvy.FormSource, Code: []byte(code), Entry: "f"}
}

// register registers a function, and gives it as NAME@VERSION with its id.
func register(t *testing.T, c *client.Client, f *navvy.FunctionVersion) *navvy.FunctionVersion {
	t.Helper()
	v, err := c.Register(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func at(f *navvy.FunctionVersion) string { return fmt.Sprintf("%s@%d", f.Name, f.Version) }

// names lists functions, or with a name the versions of one.
func names(t *testing.T, c *client.Client, name string) []string {
	t.Helper()
	list := []string{}
	for f, err := range c.Functions(t.Context(), name) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Code != nil {
			t.Errorf("%s has its code in a list", at(f))
		}
		list = append(list, at(f))
	}
	return list
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// A version is what was registered, for ever; the same once more is the same.
func TestRegister(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx, ann := t.Context(), w.as(t, "ann", auth.RoleUser)
	forms := map[string]*navvy.FunctionVersion{
		"source":    {Name: "f", Form: navvy.FormSource, Code: []byte("def f(): pass"), Entry: "f"},
		"pickle":    {Name: "<lambda>", Form: navvy.FormPickle, Code: []byte("\x80\x04N."), Python: "3.11", Pickler: "dill 0.3.6"},
		"reference": {Name: "m.f", Form: navvy.FormReference, Entry: "m:f"},
	}
	for form, f := range forms {
		one, again := register(t, ann, f), register(t, ann, f)
		if diff := cmp.Diff(one, again); diff != "" {
			t.Errorf("%s: once more -, +:\n%s", form, diff)
		}
		if ok := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(one.ID); !ok || one.Version != 1 || one.Code != nil {
			t.Errorf("%s: %+v", form, one)
		}
		got, err := ann.Function(ctx, f.Name, 0, true)
		if err != nil {
			t.Fatal(err)
		}
		full := *f
		full.ID, full.Owner, full.Version, full.Size = one.ID, "ann", 1, len(f.Code)
		if diff := cmp.Diff(&full, got, cmpopts.IgnoreFields(full, "Created"), cmpopts.EquateEmpty()); diff != "" || got.Created.IsZero() {
			t.Errorf("%s: want -, got +:\n%s", form, diff)
		}
	}
	for change, f := range map[string]navvy.FunctionVersion{
		"code": {Code: []byte("def f(): 1"), Entry: "f"}, "entry": {Code: []byte("def f(): 1"), Entry: "g"},
		"python": {Code: []byte("def f(): 1"), Entry: "g", Python: "3.12"},
	} {
		f.Name, f.Form = "f", navvy.FormSource
		before := len(names(t, ann, "f"))
		if v := register(t, ann, &f); v.Version != before+1 {
			t.Errorf("another %s makes version %d, behind %d", change, v.Version, before)
		}
	}
	if v := register(t, ann, forms["source"]); v.Version != 5 {
		t.Errorf("what is not the newest any more becomes version %d", v.Version)
	}
	want(t, "names", names(t, ann, ""), "<lambda>@1", "f@5", "m.f@1")
	want(t, "versions", names(t, ann, "f"), "f@1", "f@2", "f@3", "f@4", "f@5")
}

// A version is found by its id, by its name, and by name and number.
func TestGetFunction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx, ann := t.Context(), w.as(t, "ann", auth.RoleUser)
	one, two := register(t, ann, source("f", "1")), register(t, ann, source("f", "2"))
	register(t, ann, source("ff", "x"))
	for _, c := range []struct {
		name    string
		version int
		want    string
	}{{"f", 0, "2"}, {"f", 1, "1"}, {"f", 2, "2"}, {one.ID, 0, "1"}, {one.ID, 1, "1"}, {two.ID, 0, "2"}, {"ff", 1, "x"}} {
		got, err := ann.Function(ctx, c.name, c.version, true)
		if err != nil || string(got.Code) != c.want {
			t.Errorf("%s, %d: %+v, %v", c.name, c.version, got, err)
		}
		if got, err := ann.Function(ctx, c.name, c.version, false); err != nil || got.Code != nil || got.Size != len(c.want) {
			t.Errorf("%s, %d, in brief: %+v, %v", c.name, c.version, got, err)
		}
	}
	for name, version := range map[string]int{"f": 3, "g": 0, one.ID: 2, "": 0, "a b": 0, "ff": -1, strings.Repeat("x", 1000): 0, "f\x00": 0} {
		if _, err := ann.Function(ctx, name, version, true); !errors.Is(err, navvy.ErrNotFound) || strings.Contains(err.Error(), "function-") {
			t.Errorf("%.20q, %d: %v", name, version, err)
		}
		if _, err := ann.RemoveFunction(ctx, name, version); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("remove %.20q, %d: %v", name, version, err)
		}
	}
	for _, err := range ann.Functions(ctx, "g") {
		if !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("versions of none: %v", err)
		}
	}
}

// pages lists by pages of some length, and gives what was on them.
func pages(t *testing.T, rpc navvyv1.FunctionsClient, name string, limit int32) (list []string) {
	t.Helper()
	for page, n := "", 0; page != "" || n == 0; n++ {
		resp, err := rpc.List(t.Context(), &navvyv1.FunctionsListRequest{Name: name, Limit: limit, Page: page})
		if err != nil || n > 20 {
			t.Fatalf("page %d: %v", n, err)
		}
		if got := len(resp.GetFunctions()); got > int(limit) || got == 0 {
			t.Errorf("page %d has %d of %d", n, got, limit)
		}
		for _, f := range resp.GetFunctions() {
			list = append(list, at(api.ToFunctionVersion(f)))
		}
		page = resp.GetNextPage()
	}
	return list
}

// Names and versions come in pages, none of which is empty, and each once.
func TestFunctionsComeInPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	conn := w.conn(t, "ann", auth.RoleUser)
	ann, rpc := client.New(conn), navvyv1.NewFunctionsClient(conn)
	var newest, versions []string
	for i := range 6 {
		name := strings.Repeat("f", i+1) // each the beginning of the next
		for n := range i + 1 {
			register(t, ann, source(name, fmt.Sprint(n)))
		}
		newest = append(newest, fmt.Sprintf("%s@%d", name, i+1))
		versions = append(versions, fmt.Sprintf("ffffff@%d", i+1))
	}
	for limit := int32(1); limit < 8; limit++ {
		want(t, fmt.Sprintf("names, by %d", limit), pages(t, rpc, "", limit), newest...)
		want(t, fmt.Sprintf("versions, by %d", limit), pages(t, rpc, "ffffff", limit), versions...)
	}
}

// Where a page begins is the server's to say; what somebody makes up shows nothing of others.
func TestMadeUpPagesOfFunctions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	conn := w.conn(t, "ann", auth.RoleUser)
	rpc := navvyv1.NewFunctionsClient(conn)
	for _, name := range []string{"f", "ffffff"} {
		register(t, client.New(conn), source(name, "x"))
	}
	first, err := rpc.List(t.Context(), &navvyv1.FunctionsListRequest{Limit: 1})
	if err != nil || first.GetNextPage() == "" {
		t.Fatal(first, err)
	}
	register(t, w.as(t, "bob", auth.RoleUser), source("theirs", "x"))
	for _, page := range []string{"x", "zz", strings.Repeat("ff", 600), strings.Repeat("g", 100)} {
		if _, err := rpc.List(t.Context(), &navvyv1.FunctionsListRequest{Page: page}); !errors.Is(api.FromWire(err), navvy.ErrInvalid) {
			t.Errorf("page %.10s: %v", page, err)
		}
	}
	for _, page := range []string{"00", "ffff", strings.Repeat("ff", 300), first.GetNextPage() + "ff"} { // made up, and harmless
		for _, name := range []string{"", "ffffff"} {
			resp, err := rpc.List(t.Context(), &navvyv1.FunctionsListRequest{Name: name, Page: page})
			if err != nil && !errors.Is(api.FromWire(err), navvy.ErrInvalid) {
				t.Errorf("page %.10s of %q: %v", page, name, err)
			}
			for _, f := range resp.GetFunctions() {
				if f.GetOwner() != "ann" || name != "" && f.GetName() != name {
					t.Errorf("page %.10s of %q has %s of %s", page, name, f.GetName(), f.GetOwner())
				}
			}
		}
	}
	if _, err := rpc.List(t.Context(), &navvyv1.FunctionsListRequest{Limit: -1}); !errors.Is(api.FromWire(err), navvy.ErrInvalid) {
		t.Errorf("a negative limit: %v", err)
	}
}

// Functions are their owner's alone: to others there is none, whatever their role.
func TestFunctionsOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx, ann := t.Context(), w.as(t, "ann", auth.RoleUser)
	hers := register(t, ann, source("f", "secret"))
	for who, role := range map[string]auth.Role{"bob": auth.RoleUser, "root": auth.RoleAdmin} {
		c := w.as(t, who, role)
		for _, name := range []string{"f", hers.ID} {
			if _, err := c.Function(ctx, name, 0, true); !errors.Is(err, navvy.ErrNotFound) {
				t.Errorf("%s gets %s: %v", who, name, err)
			}
			if _, err := c.RemoveFunction(ctx, name, 0); !errors.Is(err, navvy.ErrNotFound) {
				t.Errorf("%s removes %s: %v", who, name, err)
			}
			if _, err := trySubmit(ctx, c, callOf(&navvy.Function{Name: name})); !errors.Is(err, navvy.ErrNotFound) {
				t.Errorf("%s calls %s by name: %v", who, name, err)
			}
		}
		if _, err := trySubmit(ctx, c, callOf(&navvy.Function{ID: hers.ID})); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("%s calls it: %v", who, err)
		}
		want(t, who+" has", names(t, c, ""))
		if mine := register(t, c, source("f", "mine")); mine.Version != 1 || mine.ID == hers.ID {
			t.Errorf("%s registers %+v", who, mine)
		}
	}
	if got, err := ann.Function(ctx, "f", 0, true); err != nil || string(got.Code) != "secret" {
		t.Errorf("hers is %+v, %v", got, err)
	}
}

// One version is removed, or all; a number is not given again while others are there.
func TestRemoveFunction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx, ann := t.Context(), w.as(t, "ann", auth.RoleUser)
	var ids []string
	for n := range 5 {
		ids = append(ids, register(t, ann, source("f", fmt.Sprint(n))).ID)
	}
	register(t, ann, source("ff", "x"))
	remove := func(name string, version, removed int) {
		t.Helper()
		if n, err := ann.RemoveFunction(ctx, name, version); err != nil || n != removed {
			t.Errorf("remove %s, %d: %d, %v", name, version, n, err)
		}
	}
	remove("f", 2, 1)
	remove(ids[0], 0, 1)
	want(t, "left", names(t, ann, "f"), "f@3", "f@4", "f@5")
	remove(ids[4], 5, 1)
	want(t, "left", names(t, ann, "f"), "f@3", "f@4")
	want(t, "names", names(t, ann, ""), "f@4", "ff@1")
	if got, err := ann.Function(ctx, "f", 0, true); err != nil || got.Version != 4 {
		t.Errorf("newest is %+v, %v", got, err)
	}
	if _, err := ann.Function(ctx, "f", 5, true); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("what was removed: %v", err)
	}
	if v := register(t, ann, source("f", "another")); v.Version != 6 {
		t.Errorf("another one becomes version %d: somebody may call 5 and mean what was there", v.Version)
	}
	remove("f", 6, 1)
	remove("f", 4, 1)
	want(t, "names", names(t, ann, ""), "f@3", "ff@1")
	remove("f", 0, 1)
	want(t, "names", names(t, ann, ""), "ff@1")
	for _, id := range ids {
		if _, err := ann.Function(ctx, id, 0, true); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if v := register(t, ann, source("f", "anew")); v.Version != 1 {
		t.Errorf("anew it is version %d", v.Version)
	}
	remove("f", 1, 1)
	want(t, "names", names(t, ann, ""), "ff@1")
}

// What is no function is refused, and says why.
func TestBadFunctions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx, ann := t.Context(), w.as(t, "ann", auth.RoleUser)
	good := func() navvy.FunctionVersion { return *source("f", "x") }
	pickled := func(code string) func(*navvy.FunctionVersion) {
		return func(f *navvy.FunctionVersion) { f.Form, f.Entry, f.Code = navvy.FormPickle, "", []byte(code) }
	}
	for what, change := range map[string]func(*navvy.FunctionVersion){
		"no name":              func(f *navvy.FunctionVersion) { f.Name = "" },
		"a name with a space":  func(f *navvy.FunctionVersion) { f.Name = "a b" },
		"a name with a zero":   func(f *navvy.FunctionVersion) { f.Name = "a\x00b" },
		"a long name":          func(f *navvy.FunctionVersion) { f.Name = strings.Repeat("x", navvy.MaxFunctionName+1) },
		"no form":              func(f *navvy.FunctionVersion) { f.Form = "" },
		"an unknown form":      func(f *navvy.FunctionVersion) { f.Form = "wasm" },
		"no code":              func(f *navvy.FunctionVersion) { f.Code = nil },
		"large code":           func(f *navvy.FunctionVersion) { f.Code = make([]byte, navvy.MaxFunctionCode+1) },
		"no entry":             func(f *navvy.FunctionVersion) { f.Entry = "" },
		"a long entry":         func(f *navvy.FunctionVersion) { f.Entry = strings.Repeat("x", navvy.MaxMessage+1) },
		"a long python":        func(f *navvy.FunctionVersion) { f.Python = strings.Repeat("3", 21) },
		"a reference to none":  func(f *navvy.FunctionVersion) { f.Form, f.Code, f.Entry = navvy.FormReference, nil, "m" },
		"a reference and code": func(f *navvy.FunctionVersion) { f.Form, f.Entry = navvy.FormReference, "m:f" },
		"a pickle's entry":     func(f *navvy.FunctionVersion) { f.Form, f.Code = navvy.FormPickle, []byte("N.") },
		"an empty pickle":      pickled(""),
		"no pickle":            pickled("def f(): pass"),
		"half a pickle":        pickled("\x80\x04N"),
	} {
		f := good()
		change(&f)
		if _, err := ann.Register(ctx, &f); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	largest := good()
	largest.Name, largest.Code = strings.Repeat("n", navvy.MaxFunctionName), make([]byte, navvy.MaxFunctionCode)
	register(t, ann, &largest)
	if got, err := ann.Function(ctx, largest.Name, 0, true); err != nil || len(got.Code) != navvy.MaxFunctionCode {
		t.Errorf("the largest: %v", err)
	}
	want(t, "kept", names(t, ann, ""), largest.Name+"@1")
}

// callOf is a job that calls a function.
func callOf(f *navvy.Function) navvy.Job {
	return navvy.Job{Detached: true, Spec: navvy.Spec{Function: f}}
}

// A job that names a function keeps the version that was the newest then.
func TestSubmitResolvesFunction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx, ann := t.Context(), w.as(t, "ann", auth.RoleUser)
	one, two := register(t, ann, source("f", "1")), register(t, ann, source("f", "2"))
	for _, c := range []struct{ asked, want navvy.Function }{
		{navvy.Function{Name: "f"}, navvy.Function{ID: two.ID, Name: "f", Version: 2, Encoding: navvy.EncodingPickle}},
		{navvy.Function{Name: "f", Version: 1, Encoding: navvy.EncodingJSON}, navvy.Function{ID: one.ID, Name: "f", Version: 1, Encoding: navvy.EncodingJSON}},
		{navvy.Function{ID: one.ID, Batch: true}, navvy.Function{ID: one.ID, Name: "f", Version: 1, Encoding: navvy.EncodingPickle, Batch: true}},
		{navvy.Function{Name: one.ID}, navvy.Function{ID: one.ID, Name: "f", Version: 1, Encoding: navvy.EncodingPickle}},
	} {
		id, err := trySubmit(ctx, ann, callOf(&c.asked))
		if err != nil {
			t.Fatal(err)
		}
		job, err := ann.Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&c.want, job.Spec.Function); diff != "" || job.Name != "f" {
			t.Errorf("%+v: job %q, want -, got +:\n%s", c.asked, job.Name, diff)
		}
	}
	named := callOf(&navvy.Function{Name: "f"})
	named.Name = "nightly"
	id, err := trySubmit(ctx, ann, named)
	if err != nil {
		t.Fatal(err)
	}
	if job, err := ann.Get(ctx, id); err != nil || job.Name != "nightly" {
		t.Errorf("its name is %q, %v", job.Name, err)
	}
	for what, c := range map[string]struct {
		navvy.Function
		want error
	}{
		"an unknown name":     {navvy.Function{Name: "g"}, navvy.ErrNotFound},
		"an unknown version":  {navvy.Function{Name: "f", Version: 3}, navvy.ErrNotFound},
		"an unknown id":       {navvy.Function{ID: "0c8a5e1e-8f0a-4f4e-9d6f-3b9f5f1f1a11"}, navvy.ErrNotFound},
		"an endless id":       {navvy.Function{ID: strings.Repeat("x", 2000)}, navvy.ErrNotFound},
		"an unknown encoding": {navvy.Function{Name: "f", Encoding: "xml"}, navvy.ErrInvalid},
		"batches of JSON":     {navvy.Function{Name: "f", Encoding: navvy.EncodingJSON, Batch: true}, navvy.ErrInvalid},
	} {
		if _, err := trySubmit(ctx, ann, callOf(&c.Function)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := ann.Run(ctx, callOf(&c.Function), nil); !errors.Is(err, c.want) {
			t.Errorf("run, %s: %v", what, err)
		}
	}
}
