package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy/share/staging"
)

// newStage is the hidden verb of what runs beside a container that knows nothing of
// buckets, in its pod: it copies objects of S3 into a directory, or its files into S3.
func newStage(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "stage", Hidden: true, Args: cobra.NoArgs,
		Short: "copy the objects of a bucket for a container that knows nothing of buckets",
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newStageSide(a, "in", "copy objects of a bucket into a directory", staging.In),
		newStageSide(a, "out", "put files of a directory into a bucket", staging.Out))
	return cmd
}

// newStageSide is one of its two verbs.
func newStageSide(a *app, name, short string, copies stageCopy) *cobra.Command {
	f := &stagePodFlags{copies: copies}
	cmd := &cobra.Command{
		Use: name + " --bucket NAME --dir DIR", Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, a) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.bucket, "bucket", "", "the bucket")
	fs.StringVar(&f.prefix, "prefix", "", "what begins the names of the objects")
	fs.StringVar(&f.dir, "dir", "", "the directory")
	fs.DurationVar(&f.patience, "patience", staging.DefaultPatience, "for how long what fails is tried again")
	fs.StringVar(&f.report, "report", "", "a file for the reason of a failure")
	return cmd
}

type stageCopy = func(ctx context.Context, o *staging.Options, dir string) (staging.Count, error)

type stagePodFlags struct {
	bucket, prefix, dir, report string
	patience                    time.Duration
	copies                      stageCopy
}

// run copies. The server is said by NAVVY_BUCKETS, the account by the environment of S3's library.
func (f *stagePodFlags) run(cmd *cobra.Command, a *app) error {
	if f.bucket == "" || f.dir == "" {
		return usagef("stage: --bucket and --dir are missing")
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	o := &staging.Options{Bucket: f.bucket, Prefix: f.prefix, Patience: f.patience, Logger: slog.New(slog.NewTextHandler(a.err, nil))}
	var err error
	if text := a.env("NAVVY_BUCKETS"); text != "" {
		if o.Server, err = staging.ParseServer(text); err != nil {
			err = fmt.Errorf("NAVVY_BUCKETS: %w", err)
		}
	}
	var n staging.Count
	if err == nil {
		n, err = f.copies(ctx, o, f.dir)
	}
	if err != nil {
		if f.report != "" { // where Kubernetes looks for it
			_ = os.WriteFile(f.report, []byte(f.shown(err)), 0o644) //nolint:gosec // for whoever runs the pod; the error is printed, too
		}
		return &exitError{staging.Code(err), err}
	}
	_, err = fmt.Fprintf(a.out, "%d files, %d bytes\n", n.Files, n.Bytes)
	return err
}

// shown is an error for the user, who knows the names of the files in the directory, and that
// by another name, which it has in another container.
func (f *stagePodFlags) shown(err error) string {
	return strings.ReplaceAll(err.Error(), strings.TrimSuffix(f.dir, "/")+"/", "")
}
