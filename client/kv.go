package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
	"unicode/utf8"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// KV is the key-value store of one owner: small values, which nobody else sees but
// an admin. A key is 1 to 512 bytes of UTF-8 without control characters, a value
// less than 1 MiB. Its methods may be called at once.
type KV struct {
	rpc   navvyv1.KVClient
	owner string
}

// KV gives the caller's own key-value store.
func (c *Client) KV() KV { return KV{rpc: c.kv} }

// KVOf gives another owner's key-value store. Admins only.
func (c *Client) KVOf(owner string) KV { return KV{rpc: c.kv, owner: owner} }

// Value is one value.
type Value struct {
	Key   string
	Bytes []byte // nil if only keys were asked for
	Size  int64
	// Version is the number of the change that wrote it. The changes of an owner
	// count from 1 on, and no number is used twice.
	Version uint64
	Changed time.Time
}

func toValue(m *navvyv1.Value) Value {
	return Value{Key: m.GetKey(), Bytes: m.GetValue(), Size: m.GetSize(), Version: m.GetVersion(), Changed: toTime(m.GetChanged())}
}

// checkKey refuses what the wire does not carry; the rest the server judges.
func checkKey(key string) error {
	if !utf8.ValidString(key) {
		return fmt.Errorf("key %q: want valid UTF-8: %w", key, navvy.ErrInvalid)
	}
	return nil
}

// PutOptions are the conditions of a Put; at most one of them.
type PutOptions struct {
	// IfAbsent writes only if there is no value; otherwise navvy.ErrExists.
	IfAbsent bool
	// IfVersion writes only if the value has this version; otherwise
	// navvy.ErrConflict. 0 means no condition.
	IfVersion uint64
}

// Put writes a value and returns its version when it is durable. navvy.ErrExhausted
// says that the owner has as much as it may have.
func (kv KV) Put(ctx context.Context, key string, value []byte, o PutOptions) (version uint64, err error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	resp, err := kv.rpc.Put(ctx, &navvyv1.PutValueRequest{
		Owner: api.Text(kv.owner), Key: key, Value: value, IfAbsent: o.IfAbsent, IfVersion: o.IfVersion,
	})
	return resp.GetVersion(), api.FromWire(err)
}

// Get gives a value; navvy.ErrNotFound if there is none.
func (kv KV) Get(ctx context.Context, key string) (Value, error) {
	if err := checkKey(key); err != nil {
		return Value{}, err
	}
	resp, err := kv.rpc.Get(ctx, &navvyv1.GetValueRequest{Owner: api.Text(kv.owner), Key: key})
	if err != nil {
		return Value{}, api.FromWire(err)
	}
	return toValue(resp.GetValue()), nil
}

// Delete takes a value away; navvy.ErrNotFound if there is none. If ifVersion is
// not 0, the value must have this version; otherwise navvy.ErrConflict.
func (kv KV) Delete(ctx context.Context, key string, ifVersion uint64) error {
	if err := checkKey(key); err != nil {
		return err
	}
	_, err := kv.rpc.Delete(ctx, &navvyv1.DeleteValueRequest{Owner: api.Text(kv.owner), Key: key, IfVersion: ifVersion})
	return api.FromWire(err)
}

// List gives the values whose keys begin with prefix, in the order of their keys, as
// they are asked for. An error is the last.
func (kv KV) List(ctx context.Context, prefix string) iter.Seq2[Value, error] {
	return kv.list(ctx, prefix, false)
}

// Keys is List without the values themselves.
func (kv KV) Keys(ctx context.Context, prefix string) iter.Seq2[Value, error] {
	return kv.list(ctx, prefix, true)
}

func (kv KV) list(ctx context.Context, prefix string, keysOnly bool) iter.Seq2[Value, error] {
	return func(yield func(Value, error) bool) {
		if err := checkKey(prefix); err != nil {
			yield(Value{}, err)
			return
		}
		for page := ""; ; {
			resp, err := kv.rpc.List(ctx, &navvyv1.ListValuesRequest{
				Owner: api.Text(kv.owner), Prefix: prefix, Limit: 1000, Page: page, KeysOnly: keysOnly,
			})
			if err != nil {
				yield(Value{}, api.FromWire(err))
				return
			}
			for _, m := range resp.GetValues() {
				if !yield(toValue(m), nil) {
					return
				}
			}
			if page = resp.GetNextPage(); page == "" {
				return
			}
		}
	}
}

// ValueChange is a value that has changed.
type ValueChange struct {
	Value
	Deleted bool // of which Value has only key and version
}

// ValueChanges is what a watch tells at once; it may be nothing.
type ValueChanges struct {
	// Reset says that what was told before is void: values may have been deleted of
	// which nobody can tell any more. All that there is follows.
	Reset   bool
	Changes []ValueChange
	// Through is the version to watch on from later: all changes up to it were
	// told. It is 0 in the midst of telling what there is.
	Through uint64
}

// Watch tells the values whose keys begin with prefix that have changed after the
// version from, all that there are if it is 0, and then each change, until ctx ends.
// A value that changes often comes with its newest state, and one may come twice.
// No change is missed: after an error, the last Through that was not 0 is where
// another Watch goes on; if there was none, the next one begins anew. An error is the last.
func (kv KV) Watch(ctx context.Context, prefix string, from uint64) iter.Seq2[ValueChanges, error] {
	return func(yield func(ValueChanges, error) bool) {
		if err := checkKey(prefix); err != nil {
			yield(ValueChanges{}, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := kv.rpc.Watch(ctx, &navvyv1.WatchValuesRequest{Owner: api.Text(kv.owner), Prefix: prefix, From: from})
		for err == nil {
			var m *navvyv1.WatchValuesResponse
			if m, err = stream.Recv(); err == nil && !yield(toValueChanges(m), nil) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(ValueChanges{}, api.FromWire(err))
		}
	}
}

func toValueChanges(m *navvyv1.WatchValuesResponse) ValueChanges {
	c := ValueChanges{Reset: m.GetReset_(), Through: m.GetThrough()}
	for _, v := range m.GetChanges() {
		c.Changes = append(c.Changes, ValueChange{Value: toValue(v), Deleted: v.GetDeleted()})
	}
	return c
}
