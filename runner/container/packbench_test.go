package container_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// BenchmarkPack has navvy map many short tasks that share pods, and kubectl make bare Jobs of the
// same program, by turns on one real node, and tells both rates and how many times the one is the
// other. Jobs are fewer: their rate is the same from some dozens on.
func BenchmarkPack(b *testing.B) {
	const tasks, pack, slots, bareJobs = 10_000, 50, 400, 100
	cluster := kubetest.Open(b)
	image := cluster.NavvyImage(b)
	var inputs bytes.Buffer
	for i := range tasks {
		fmt.Fprintln(&inputs, i)
	}
	var ours, theirs time.Duration
	for i := 0; b.Loop(); i++ {
		for _, by := range []bool{i%2 == 0, i%2 != 0} {
			namespace := cluster.Namespace(b)
			if !by {
				_, ended := bare(b, cluster, cluster.Admin().Kubeconfig, namespace, "terminationGracePeriodSeconds: 30", bareJobs)
				theirs += ended
				sweepUp(b, cluster, namespace)
				continue
			}
			dir := b.TempDir()
			cmd := exec.CommandContext(b.Context(), cluster.Navvy(b), "map", "--image", kubetest.Image, "--entrypoint", "/bin/true",
				"--pack", fmt.Sprint(pack), "-j", fmt.Sprint(slots), "-o", "jsonl", "--", "{}")
			cmd.Env = append(os.Environ(), "NAVVY_DATA="+filepath.Join(dir, "data"), "HOME="+dir, "KUBECONFIG="+cluster.Admin().Kubeconfig,
				"NAVVY_KUBE_NAMESPACE="+namespace, "NAVVY_IMAGE="+image, "NAVVY_ENGINE=kubernetes")
			cmd.Stdin = bytes.NewReader(inputs.Bytes())
			var answers, said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &answers, &said
			begun := time.Now()
			err := cmd.Run()
			ours += time.Since(begun)
			if got := bytes.Count(answers.Bytes(), []byte("\n")); err != nil || got != tasks {
				b.Fatalf("there are %d answers, %v: %.1000s", got, err, said.String())
			}
			sweepUp(b, cluster, namespace)
		}
	}
	n := float64(b.N)
	rate, bareRate := tasks*n/ours.Seconds(), bareJobs*n/theirs.Seconds()
	b.ReportMetric(rate, "tasks/s")
	b.ReportMetric(bareRate, "bare-Jobs/s")
	b.ReportMetric(rate/bareRate, "ratio")
}
