package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
)

func newFn(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "fn", Short: "Python functions: register them, call them, map them over inputs",
		Long: `fn is about Python functions that are registered once and called any number of times,
in Python processes that stay warm. Arguments and values are JSON.

A function has versions, from 1, which never change: to register another function
under its name makes the next one. NAME means the newest, NAME@VERSION a certain
one. Functions belong to whoever has registered them; nobody else sees them.`,
		Example: `  navvy fn register score.py:score
  navvy fn call score 3
  navvy fn map score < inputs.jsonl > values.jsonl`, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFnRegister(a), newFnLs(a), newFnShow(a), newFnCall(a), newFnMap(a), newFnRm(a))
	return cmd
}

func newFnRegister(a *app) *cobra.Command {
	f := &listFlags{}
	name, reference := "", false
	cmd := &cobra.Command{
		Use: "register FILE:FUNCTION [flags]", Short: "register a function of a Python file, and print NAME@VERSION",
		Long: `register registers a function of a Python file: the text of the file is kept, and
the workers run it from there, with what it imports.

With --reference it is MODULE:FUNCTION: the workers import the module, which has to
be on their Python path, and nothing is kept but the names.

To register the same once more gives the version that there is.`,
		Example: `  navvy fn register score.py:score
  navvy fn register score.py:main --name score
  navvy fn register --reference statistics:mean`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			function, err := functionFrom(args[0], name, reference)
			if err != nil {
				return err
			}
			return a.registerFunction(cmd.Context(), f, function)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&name, "name", "", "what the function is to be known as (default: FUNCTION)")
	cmd.Flags().BoolVar(&reference, "reference", false, "the argument is MODULE:FUNCTION, which the workers import")
	return cmd
}

// functionFrom makes the function that an argument of register names. Whether the file
// has it is for Python to say.
func functionFrom(arg, name string, reference bool) (*navvy.FunctionVersion, error) {
	at := strings.LastIndexByte(arg, ':')
	if at <= 0 || at == len(arg)-1 {
		want, hint := "FILE:FUNCTION", "as in score.py:score"
		if reference {
			want, hint = "MODULE:FUNCTION", "as in statistics:mean"
		}
		return nil, withHint(usagef("%q: want %s", arg, want), "%s", hint)
	}
	from, entry := arg[:at], arg[at+1:]
	f := &navvy.FunctionVersion{Name: cmp.Or(name, entry), Form: navvy.FormSource, Entry: entry}
	if reference {
		f.Form, f.Entry = navvy.FormReference, arg
		if strings.ContainsRune(from, os.PathSeparator) || strings.HasSuffix(from, ".py") {
			return nil, withHint(usagef("--reference %s: this names a file, not a module", arg), "leave --reference away, or write it as Python imports it: package.module:function")
		}
	} else {
		var err error
		if f.Code, err = sourceFile(from); err != nil {
			return nil, err
		}
	}
	if err := f.Validate(); err != nil {
		return nil, &usageError{err}
	}
	return f, nil
}

// sourceFile reads a file of Python.
func sourceFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) && !strings.HasSuffix(name, ".py") {
		return nil, withHint(&usageError{err}, "a module that workers import takes --reference")
	} else if err != nil {
		return nil, &usageError{err}
	}
	defer file.Close()
	code, err := io.ReadAll(io.LimitReader(file, navvy.MaxFunctionCode+1))
	switch {
	case err != nil:
		return nil, &usageError{err}
	case len(code) == 0:
		return nil, usagef("%s is empty", name)
	case len(code) > navvy.MaxFunctionCode:
		return nil, withHint(usagef("%s has more than %d bytes", name, navvy.MaxFunctionCode), "hand large data over as arguments, or let workers import it: --reference")
	}
	return code, nil
}

func (a *app) registerFunction(ctx context.Context, f *listFlags, function *navvy.FunctionVersion) error {
	if err := a.makeData(); err != nil {
		return err
	}
	return a.with(ctx, needLook, func(c *conn) error {
		registered, err := c.Register(ctx, function)
		if err != nil {
			return functionHint(err)
		}
		if f.output != "table" {
			return f.one(a.out, newFunctionObject(registered))
		}
		_, err = fmt.Fprintf(a.out, "%s@%d\n", registered.Name, registered.Version)
		return err
	})
}

// functionHint says what can be done about an error.
func functionHint(err error) error {
	switch {
	case errors.Is(err, navvy.ErrNotFound):
		return withHint(err, "navvy fn ls lists the functions")
	case errors.Is(err, navvy.ErrExhausted):
		return withHint(err, "navvy fn rm NAME@VERSION makes room")
	}
	return err
}

// functionNeeds says which function a job calls, and what that needs of a worker; empty
// if it calls none.
func functionNeeds(ctx context.Context, c *conn, j *navvy.Job) string {
	f := j.Spec.Function
	if f == nil {
		return ""
	}
	text, needs := functionText(f), "needs a worker with Python 3.8 or later"
	v, err := c.Function(ctx, f.ID, 0, false)
	switch {
	case errors.Is(err, navvy.ErrNotFound):
		return text + ", which was removed"
	case err != nil:
		return text // whatever it is, the task is what was asked for
	case v.Form == navvy.FormReference:
		needs += ", which finds the module " + strings.SplitN(v.Entry, ":", 2)[0]
	case v.Form == navvy.FormPickle && v.Python != "":
		needs = "needs a worker with Python " + v.Python + ", which alone can read it"
	}
	if v.Pickler != "" {
		needs += ", and with " + strings.SplitN(v.Pickler, " ", 2)[0]
	}
	return text + ": " + needs
}
