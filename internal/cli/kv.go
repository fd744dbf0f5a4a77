package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/quantity"
)

func newKV(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "kv", Short: "small values for jobs and people, each owner's own",
		Long: `kv keeps small values under keys: settings of a job, where it is, what is still to
do. Each owner has its own; nobody else sees them but an administrator.

Each change of an owner's values has a number, the version of what it wrote. To
change a value only if nobody else has, give the version that it had.

A task speaks with the navvy that runs it, for the values of its owner, without any
further setting: NAVVY_ADDR and NAVVY_TASK_TOKEN are in its environment. --server,
--context, --data and --store mean others.`,
		Example: "  navvy kv put settings/model large\n  navvy kv get settings/model\n  navvy kv ls settings/", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	owner := ""
	cmd.PersistentFlags().StringVar(&owner, "owner", "", "whose values; others than one's own for administrators only")
	cmd.AddCommand(newKVPut(a, &owner), newKVGet(a, &owner), newKVLs(a, &owner), newKVRm(a, &owner), newKVWatch(a, &owner))
	return cmd
}

// withKV calls fn with the values of an owner, one's own if it is empty.
func (a *app) withKV(ctx context.Context, n need, owner string, fn func(client.KV, *conn) error) error {
	use := func(c *conn) error {
		kv := c.KV()
		if owner != "" {
			kv = c.KVOf(owner)
		}
		return kvHint(fn(kv, c))
	}
	if a.asTask() {
		return a.withTask(ctx, use)
	}
	return a.with(ctx, n, use)
}

// kvHint says what can be done about an error.
func kvHint(err error) error {
	switch {
	case errors.Is(err, navvy.ErrConflict):
		return withHint(err, "somebody else has changed it; navvy kv get KEY -o json shows what is there now, and its version")
	case errors.Is(err, navvy.ErrExists):
		return withHint(err, "without --if-absent it is written over")
	case errors.Is(err, navvy.ErrNotFound):
		return withHint(err, "navvy kv ls lists the keys")
	case errors.Is(err, navvy.ErrExhausted):
		return withHint(err, "navvy kv ls shows what there is, and navvy kv rm KEY makes room")
	}
	return err
}

// checkVersion refuses a version that was given and that nothing has.
func checkVersion(cmd *cobra.Command, version uint64) error {
	if version == 0 && cmd.Flags().Changed("if-version") {
		return usagef("--if-version 0: versions count from 1; for a value that must not exist give --if-absent")
	}
	return nil
}

func newKVPut(a *app, owner *string) *cobra.Command {
	var o client.PutOptions
	var file string
	cmd := &cobra.Command{
		Use: "put KEY [VALUE | -f FILE | -] [flags]", Short: "write a value, and print its version",
		Long: `put writes a value of less than 1 MiB: the argument, or what a file or, with -, standard
input holds, as it is. It prints the version. What others must not see belongs
into a file or on standard input: arguments are seen by all users of the machine.`,
		Example: `  navvy kv put settings/model large
  navvy kv put settings/key -f key.pem
  echo done | navvy kv put state/7 - --if-version 12`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 2) == (file != "") {
				return withHint(usagef("want one value: an argument, -f FILE, or - for standard input"), "see navvy kv put --help")
			}
			if o.IfAbsent && o.IfVersion != 0 {
				return usagef("--if-absent and --if-version: only one can hold")
			}
			if err := checkVersion(cmd, o.IfVersion); err != nil {
				return err
			}
			value, err := a.kvValue(args[1:], file)
			if err != nil {
				return err
			}
			if err := a.makeData(); err != nil {
				return err
			}
			return a.withKV(cmd.Context(), needLook, *owner, func(kv client.KV, _ *conn) error {
				version, err := kv.Put(cmd.Context(), args[0], value, o)
				if err == nil {
					_, err = fmt.Fprintln(a.out, version)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the value is what this `FILE` holds; - for standard input")
	cmd.Flags().BoolVar(&o.IfAbsent, "if-absent", false, "only if there is no value yet")
	cmd.Flags().Uint64Var(&o.IfVersion, "if-version", 0, "only if the value has this version")
	return cmd
}

// makeData makes the data directory, if it is one that is spoken with: who looks does not.
func (a *app) makeData() error {
	if a.asTask() {
		return nil
	}
	t, err := a.target()
	if err == nil && t == nil {
		_, err = a.dir()
	}
	return err
}

// kvValue is the value that the command line names.
func (a *app) kvValue(args []string, file string) ([]byte, error) {
	if len(args) == 1 && args[0] != "-" {
		return []byte(args[0]), nil
	}
	from := a.in
	if file != "" && file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, usagef("-f %s: %w", file, err)
		}
		defer f.Close()
		from = f
	}
	value, err := io.ReadAll(io.LimitReader(from, engine.MaxValueSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the value: %w", err)
	}
	if len(value) > engine.MaxValueSize {
		return nil, withHint(usagef("the value has more than %d bytes", engine.MaxValueSize), "keep it in a file, and its name as the value")
	}
	return value, nil
}

// valueObject is a value as -o json shows it.
type valueObject struct {
	Key     string     `json:"key"`
	Version uint64     `json:"version"`
	Changed *time.Time `json:"changed,omitempty"`
	Size    int64      `json:"size"`
	// Value is the value, or Base64, if it is no UTF-8.
	Value   *string `json:"value,omitempty"`
	Base64  []byte  `json:"base64,omitempty"`
	Deleted bool    `json:"deleted,omitempty"`
}

// newValueObject shows a value; with full, what it holds.
func newValueObject(v *client.Value, full bool) valueObject {
	o := valueObject{Key: v.Key, Version: v.Version, Size: v.Size}
	if !v.Changed.IsZero() {
		o.Changed = &v.Changed
	}
	if text := string(v.Bytes); full && utf8.ValidString(text) {
		o.Value = &text
	} else if full {
		o.Base64 = v.Bytes
	}
	return o
}

func newKVGet(a *app, owner *string) *cobra.Command {
	output := "raw"
	cmd := &cobra.Command{
		Use: "get KEY [flags]", Short: "print a value, its bytes as they are",
		Example: "  navvy kv get settings/model\n  navvy kv get settings/model -o json | jq .version", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "raw" && output != "json" {
				return usagef("-o %s: want raw or json", output)
			}
			return a.withKV(cmd.Context(), needLook, *owner, func(kv client.KV, _ *conn) error {
				v, err := kv.Get(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if output == "raw" {
					_, err := a.out.Write(v.Bytes)
					return err
				}
				return (&listFlags{output: output}).one(a.out, newValueObject(&v, true))
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "raw", "how it is printed: raw, or json with its version")
	return cmd
}

func newKVLs(a *app, owner *string) *cobra.Command {
	f := &listFlags{}
	cmd := &cobra.Command{
		Use: "ls [PREFIX] [flags]", Short: "list keys that begin with PREFIX, in order",
		Long:    `ls lists keys, with -o json and -o jsonl also their values.`,
		Example: "  navvy kv ls\n  navvy kv ls settings/ -o jsonl", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			prefix := ""
			if len(args) == 1 {
				prefix = args[0]
			}
			return a.withKV(cmd.Context(), needLook, *owner, func(kv client.KV, _ *conn) error { return a.listValues(cmd.Context(), kv, prefix, f) })
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) listValues(ctx context.Context, kv client.KV, prefix string, f *listFlags) error {
	list := kv.List
	if f.output == "table" {
		list = kv.Keys
	}
	out := f.objects(a.out)
	var rows [][]string
	for v, err := range list(ctx, prefix) {
		if err != nil {
			return err
		}
		if f.output == "table" {
			rows = append(rows, []string{v.Key, quantity.Size(v.Size), strconv.FormatUint(v.Version, 10), moment(v.Changed)})
		} else if err := out.add(newValueObject(&v, true)); err != nil {
			return err
		}
	}
	if f.output != "table" {
		return out.close()
	}
	if len(rows) == 0 {
		a.say("there are no values")
		return nil
	}
	return format.Table(a.out, []string{"KEY", "SIZE", "VERSION", "CHANGED"}, rows)
}

func newKVRm(a *app, owner *string) *cobra.Command {
	version := uint64(0)
	cmd := &cobra.Command{
		Use: "rm KEY [flags]", Short: "take a value away",
		Example: "  navvy kv rm settings/model\n  navvy kv rm state/7 --if-version 12", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkVersion(cmd, version); err != nil {
				return err
			}
			return a.withKV(cmd.Context(), needLook, *owner, func(kv client.KV, _ *conn) error {
				return kv.Delete(cmd.Context(), args[0], version)
			})
		},
	}
	cmd.Flags().Uint64Var(&version, "if-version", 0, "only if the value has this version")
	return cmd
}
