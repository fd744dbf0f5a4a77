package monitor_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/deploy/monitor"
)

func files(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, f := range monitor.Files("try-1", "127.0.0.1:7481") {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Prometheus' own tool takes the configuration and the rules.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("promtool is not there (apt-get install prometheus)")
	} else if err != nil {
		t.Fatal(err)
	}
	dir := files(t)
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"check", "rules", "navvy-rules.yml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "FAILED") {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	}
}

// Alarms and dashboard ask for numbers that a server has, and every one of the dashboard's
// has a query.
func TestMetrics(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../../internal/holder/metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`number\("([a-z_]+)"`).FindAllSubmatch(source, -1) {
		known["navvy_"+string(m[1])] = true
	}
	if len(known) < 20 {
		t.Fatalf("only %d metrics were found", len(known))
	}
	dir := files(t)
	name := regexp.MustCompile(`navvy_[a-z_]+`)
	for _, file := range []string{"navvy-rules.yml", "navvy-dashboard.json"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		asked := name.FindAllString(string(text), -1)
		if len(asked) == 0 {
			t.Errorf("%s asks for nothing", file)
		}
		for _, metric := range asked {
			if !known[strings.TrimSuffix(metric, "_bucket")] {
				t.Errorf("%s asks for %s, which no server has", file, metric)
			}
		}
	}
}

// The dashboard is what Grafana imports: each panel has a place, a title and a query.
func TestDashboard(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(files(t), "navvy-dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title  string
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.Title != "navvy try-1" || len(d.Panels) < 10 {
		t.Errorf("%q has %d panels", d.Title, len(d.Panels))
	}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if p.Title == "" || len(p.Targets) == 0 || p.Targets[0].Expr == "" || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%+v", p)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Errorf("%q lies over %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}
