package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/quantity"
)

// functionObject is a version of a function as -o json shows it.
type functionObject struct {
	Name       string             `json:"name"`
	Version    int                `json:"version"`
	ID         string             `json:"id"`
	Owner      string             `json:"owner"`
	Form       navvy.FunctionForm `json:"form"`
	Entry      string             `json:"entry,omitempty"`
	Python     string             `json:"python,omitempty"`
	Pickler    string             `json:"pickler,omitempty"`
	Size       int                `json:"size"` // of the code in bytes
	Registered time.Time          `json:"registered"`
	// Code is the code, or CodeBase64, if it is no UTF-8; if it was asked for.
	Code       *string `json:"code,omitempty"`
	CodeBase64 []byte  `json:"code_base64,omitempty"`
}

func newFunctionObject(f *navvy.FunctionVersion) functionObject {
	o := functionObject{
		Name: f.Name, Version: f.Version, ID: f.ID, Owner: f.Owner, Form: f.Form, Entry: f.Entry,
		Python: f.Python, Pickler: f.Pickler, Size: f.Size, Registered: f.Created,
	}
	if text := string(f.Code); text != "" && utf8.ValidString(text) {
		o.Code = &text
	} else if text != "" {
		o.CodeBase64 = f.Code
	}
	return o
}

func newFnLs(a *app) *cobra.Command {
	f := &listFlags{}
	cmd := &cobra.Command{
		Use: "ls [NAME] [flags]", Short: "list functions, the newest version of each, or all versions of one",
		Example: "  navvy fn ls\n  navvy fn ls score -o jsonl", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.with(cmd.Context(), needLook, func(c *conn) error {
				return functionHint(a.listFunctions(cmd.Context(), c, strings.Join(args, ""), f))
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) listFunctions(ctx context.Context, c *conn, name string, f *listFlags) error {
	out := f.objects(a.out)
	var rows [][]string
	for v, err := range c.Functions(ctx, name) {
		if err != nil {
			return err
		}
		if f.output == "table" {
			rows = append(rows, []string{v.Name, strconv.Itoa(v.Version), string(v.Form), codeSize(v), v.Python, moment(v.Created), v.ID})
		} else if err := out.add(newFunctionObject(v)); err != nil {
			return err
		}
	}
	if f.output != "table" {
		return out.close()
	}
	if len(rows) == 0 {
		a.say("there are no functions")
		return nil
	}
	return format.Table(a.out, []string{"NAME", "VERSION", "FORM", "SIZE", "PYTHON", "REGISTERED", "ID"}, rows)
}

// codeSize is how large a function's code is; empty if it has none.
func codeSize(f *navvy.FunctionVersion) string {
	if f.Size == 0 {
		return ""
	}
	return quantity.Size(int64(f.Size))
}

func newFnShow(a *app) *cobra.Command {
	f := &listFlags{}
	code := false
	cmd := &cobra.Command{
		Use: "show NAME[@VERSION] [flags]", Short: "what is known of a function, or its code",
		Long: `show tells what is known of a version of a function. With --code it prints the code
instead, as it is: the text of a file, or the bytes of a pickle, which navvy never
opens. With -o json the code stands beside the rest.`,
		Example: "  navvy fn show score\n  navvy fn show score@2 --code > score.py", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			name, version, err := functionArg(args[0])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), needLook, func(c *conn) error {
				v, err := c.Function(cmd.Context(), name, version, code)
				if err != nil {
					return functionHint(err)
				}
				return a.showFunction(f, v, code)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&code, "code", false, "print the code")
	return cmd
}

func (a *app) showFunction(f *listFlags, v *navvy.FunctionVersion, code bool) error {
	switch {
	case f.output != "table":
		return f.one(a.out, newFunctionObject(v))
	case code && v.Form == navvy.FormReference:
		return fmt.Errorf("function %s has no code: workers import %s: %w", v.Name, v.Entry, navvy.ErrConflict)
	case code:
		_, err := a.out.Write(v.Code)
		return err
	}
	rows := [][]string{
		{"function", v.Name}, {"version", strconv.Itoa(v.Version)}, {"id", v.ID}, {"owner", v.Owner}, {"form", string(v.Form)}, {"entry", v.Entry},
		{"size", codeSize(v)}, {"python", v.Python}, {"pickled by", v.Pickler}, {"registered", moment(v.Created)},
	}
	return format.Table(a.out, nil, filled(rows))
}

func newFnRm(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "rm NAME[@VERSION]…", Short: "remove functions, with all their versions, or one of them",
		Long: `rm removes all versions of a function, or the one that is named. Calls of them that
have not begun fail; what has been answered stays.`,
		Example: "  navvy fn rm score\n  navvy fn rm score@1 score@2", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if _, _, err := functionArg(arg); err != nil {
					return err
				}
			}
			return a.with(cmd.Context(), needLook, func(c *conn) error {
				for _, arg := range args {
					name, version, err := functionArg(arg)
					if err != nil {
						return err
					}
					n, err := c.RemoveFunction(cmd.Context(), name, version)
					if err != nil {
						return functionHint(err)
					}
					a.say("removed %s of function %s", count(int64(n), "version"), arg)
				}
				return nil
			})
		},
	}
	return cmd
}

// completeFunctions completes names of functions, and behind NAME@ their versions.
func (a *app) completeFunctions(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && cmd.Name() != "rm" {
		return nil, cobra.ShellCompDirectiveNoFileComp // arguments, not functions
	}
	name, _, versions := strings.Cut(prefix, "@")
	if !versions {
		name = ""
	}
	var names []string
	err := a.with(cmd.Context(), needLook, func(c *conn) error { return offerFunctions(cmd.Context(), c.Client, name, prefix, &names) })
	if errors.Is(err, navvy.ErrNotFound) {
		err = nil
	}
	return offered(names, err)
}

// offerFunctions adds functions, or versions of one, that begin as a prefix does.
func offerFunctions(ctx context.Context, c *client.Client, name, prefix string, names *[]string) error {
	for v, err := range c.Functions(ctx, name) {
		if err != nil {
			return err
		}
		text := v.Name
		if name != "" {
			text = fmt.Sprintf("%s@%d", v.Name, v.Version)
		}
		if strings.HasPrefix(text, prefix) {
			*names = append(*names, text+"\t"+strings.TrimSpace(string(v.Form)+" "+v.Entry))
		}
		if len(*names) == maxOffered {
			return nil
		}
	}
	return nil
}
