package client

import (
	"context"
	"iter"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// Register registers a function as the caller's, of which it reads Name, Form, Code,
// Entry, Python and Pickler, and returns the version without its code: the next one, or
// the newest if it is the same. ErrExhausted says that there are too many.
func (c *Client) Register(ctx context.Context, f *navvy.FunctionVersion) (*navvy.FunctionVersion, error) {
	m, err := c.functions.Register(ctx, &navvyv1.FunctionsRegisterRequest{
		Name: f.Name, Form: string(f.Form), Code: f.Code, Entry: f.Entry, Python: f.Python, Pickler: f.Pickler,
	})
	if err != nil {
		return nil, api.FromWire(err)
	}
	return api.ToFunctionVersion(m), nil
}

// Function gives a version of one of the caller's functions, by its id, or by the
// function's name and version, where 0 is the newest; with its code if that is asked for.
// ErrNotFound if there is none.
func (c *Client) Function(ctx context.Context, idOrName string, version int, code bool) (*navvy.FunctionVersion, error) {
	m, err := c.functions.Get(ctx, &navvyv1.FunctionsGetRequest{Id: idOrName, Version: int32(version), Brief: !code})
	if err != nil {
		return nil, api.FromWire(err)
	}
	return api.ToFunctionVersion(m), nil
}

// Functions gives the newest version of each of the caller's functions, by name, or all
// versions of one, the newest last; without code.
func (c *Client) Functions(ctx context.Context, name string) iter.Seq2[*navvy.FunctionVersion, error] {
	return func(yield func(*navvy.FunctionVersion, error) bool) {
		req := &navvyv1.FunctionsListRequest{Name: name}
		for {
			resp, err := c.functions.List(ctx, req)
			if err != nil {
				yield(nil, api.FromWire(err))
				return
			}
			for _, m := range resp.GetFunctions() {
				if !yield(api.ToFunctionVersion(m), nil) {
					return
				}
			}
			if req.Page = resp.GetNextPage(); req.Page == "" {
				return
			}
		}
	}
}

// RemoveFunction removes a version of one of the caller's functions, or with a name and
// version 0 all, and tells how many. Calls of them that have not begun fail.
func (c *Client) RemoveFunction(ctx context.Context, idOrName string, version int) (int, error) {
	resp, err := c.functions.Remove(ctx, &navvyv1.FunctionsRemoveRequest{Id: idOrName, Version: int32(version)})
	if err != nil {
		return 0, api.FromWire(err)
	}
	return int(resp.GetRemoved()), nil
}
