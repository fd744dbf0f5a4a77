package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/quantity"
)

func newVerify(a *app) *cobra.Command {
	f := &listFlags{}
	cmd := &cobra.Command{
		Use: "verify [flags]", Short: "check the data: every checksum, every record, every count",
		Long: `verify reads all that navvy keeps and checks it: checksums of the store and of
outputs and files, records, counts beside the results. It needs the data directory to
itself, changes no answer, and exits with 65 if something is wrong.`,
		Example: "  navvy verify\n  navvy verify --data /mnt/copy -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(f.check(), a.local("verify")); err != nil {
				return err
			}
			return a.verify(cmd.Context(), f)
		},
	}
	f.add(cmd)
	return cmd
}

// verifiedObject is the outcome as -o json shows it.
type verifiedObject struct {
	Jobs     int64 `json:"jobs"`
	Inputs   int64 `json:"inputs"`
	Results  int64 `json:"results"`
	Attempts int64 `json:"attempts"`
	Values   int64 `json:"values"`
	Logs     int64 `json:"logs"`
	LogBytes int64 `json:"log_bytes"`
	// Of files that the store keeps.
	Files     int64    `json:"files"`
	FileBytes int64    `json:"file_bytes"`
	Problems  []string `json:"problems"`
}

func (a *app) verify(ctx context.Context, f *listFlags) (err error) {
	at, err := a.storeURL()
	if err != nil {
		return err
	}
	path, err := a.dataPath()
	if err != nil {
		return err
	}
	if _, err := os.Stat(holder.StoreDir(path)); at == "" && errors.Is(err, fs.ErrNotExist) {
		return noData(path)
	}
	dir, err := a.dir()
	if err != nil {
		return err
	}
	lock, pid, err := dir.TryLock()
	if err != nil {
		return err
	}
	if lock == nil {
		return withHint(fmt.Errorf("%s holds %s: %w", processName(pid), dir.Path(), navvy.ErrUnavailable), "verify it when that process has ended")
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	store, err := openStore(ctx, at, dir, a.logger(), func(bool) {}, func(error) {})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	eng, err := engine.Open(ctx, store, &engine.Options{Logger: a.logger()})
	if err != nil {
		return err
	}
	o := verifiedObject{Problems: []string{}}
	v, err := eng.Verify(ctx, func(problem error) {
		o.Problems = append(o.Problems, problem.Error())
		if f.output == "table" {
			a.tell("navvy: %v\n", problem)
		}
	})
	if err != nil {
		return err
	}
	o.Jobs, o.Inputs, o.Results, o.Attempts, o.Values, o.Logs, o.LogBytes = v.Jobs, v.Inputs, v.Results, v.Attempts, v.Values, v.Logs, v.LogBytes
	o.Files, o.FileBytes = v.Files, v.FileBytes
	if err := a.showVerified(f, &o); err != nil {
		return err
	}
	if v.Problems > 0 {
		return &exitError{code: api.ExitCorrupt, err: fmt.Errorf("%d problems were found in %s", v.Problems, store.Info().Place)}
	}
	return nil
}

func (a *app) showVerified(f *listFlags, o *verifiedObject) error {
	if f.output != "table" {
		return f.one(a.out, o)
	}
	return format.Table(a.out, nil, [][]string{
		{"jobs", format.Count(o.Jobs)}, {"inputs", format.Count(o.Inputs)}, {"results", format.Count(o.Results)},
		{"attempts", format.Count(o.Attempts)}, {"values", format.Count(o.Values)},
		{"logs", fmt.Sprintf("%s, %s", format.Count(o.Logs), quantity.Size(o.LogBytes))},
		{"files", fmt.Sprintf("%s, %s", format.Count(o.Files), quantity.Size(o.FileBytes))},
		{"problems", format.Count(int64(len(o.Problems)))},
	})
}
