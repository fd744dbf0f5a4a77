package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// newPodVerbs are the hidden verbs with which pods call navvy whose tasks share them: one
// copies the program to where the image of the tasks finds it, the other runs the tasks.
func newPodVerbs(a *app) []*cobra.Command {
	return []*cobra.Command{
		{
			Use: podCopy + " DIR", Hidden: true, Args: cobra.ExactArgs(1),
			Short: "copy this program into a directory",
			RunE:  func(_ *cobra.Command, args []string) error { return copySelf(args[0]) },
		},
		{
			Use: podTasks + " PIECE...", Hidden: true, DisableFlagParsing: true,
			Short: "run the tasks of a pod, one after another",
			RunE: func(_ *cobra.Command, args []string) error {
				if code := runPod(args, a.environ(), os.Stdout); code != 0 {
					return &exitError{code: code}
				}
				return nil
			},
		},
	}
}

// copySelf copies the program that runs into dir, as navvy, for anybody to run.
func copySelf(dir string) (err error) {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("copy navvy: %w", err)
	}
	defer func() { _ = from.Close() }()
	const mode = 0o755
	to, err := os.OpenFile(filepath.Join(dir, "navvy"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return fmt.Errorf("copy navvy: %w", err)
	}
	if _, err = io.Copy(to, from); err == nil {
		err = to.Chmod(mode) // whatever the umask
	}
	if e := to.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("copy navvy: %w", err)
	}
	return nil
}
