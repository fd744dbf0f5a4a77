package cli

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/quantity"
)

// placeFlags say what a task asks of the worker that it goes to.
type placeFlags struct {
	labels    map[string]string
	resources map[string]int64
}

// add declares them.
func (f *placeFlags) add(own *pflag.FlagSet) {
	f.labels, f.resources = map[string]string{}, map[string]int64{}
	own.Var(&labels{f.labels}, "on", "only on workers with this label: gpu=a100; may be repeated")
	own.Var(&gpus{resources{f.resources}}, "gpus", "graphics processors of its own, which it finds in CUDA_VISIBLE_DEVICES: 1")
	own.Var(&resources{f.resources}, "resource", "units of a countable resource of its worker: licence=1; may be repeated")
}

// place puts what the flags say into a spec.
func (f *placeFlags) place(s *navvy.Spec) {
	if len(f.labels) > 0 {
		s.Labels = f.labels
	}
	if len(f.resources) > 0 {
		s.Resources = f.resources
	}
}

// labels is a flag that is given once for each label.
type labels struct{ of map[string]string }

// Set adds one; the last one of a name counts.
func (l *labels) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return errors.New("want KEY=VALUE, as in gpu=a100")
	}
	if err := navvy.ValidateLabels(map[string]string{name: value}); err != nil {
		return err
	}
	l.of[name] = value
	return nil
}

// String is what was set.
func (l *labels) String() string { return labelsText(l.of) }

// Type names the value in help.
func (l *labels) Type() string { return "key=value" }

// resources is a flag that is given once for each resource.
type resources struct{ of map[string]int64 }

// Set adds one; the last one of a name counts.
func (r *resources) Set(text string) error {
	name, count, ok := strings.Cut(text, "=")
	if !ok {
		return errors.New("want NAME=N, as in licence=1")
	}
	return r.set(name, count)
}

func (r *resources) set(name, count string) error {
	n, err := quantity.ParseCount(count)
	if err != nil {
		return whyOf(err)
	}
	if err := navvy.ValidateResources(map[string]int64{name: n}); err != nil {
		return err
	}
	r.of[name] = n
	return nil
}

// String is what was set.
func (r *resources) String() string { return resourcesText(r.of) }

// Type names the value in help.
func (r *resources) Type() string { return "name=n" }

// gpus is the resource of that name.
type gpus struct{ resources }

// Set takes the number.
func (g *gpus) Set(text string) error { return g.set(navvy.ResourceGPU, text) }

// String is what was set.
func (g *gpus) String() string {
	if n := g.of[navvy.ResourceGPU]; n > 0 {
		return strconv.FormatInt(n, 10)
	}
	return ""
}

// Type names the value in help.
func (g *gpus) Type() string { return "number" }

// labelsText is labels for people, in the order of their names.
func labelsText(labels map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		words = append(words, name+"="+labels[name])
	}
	return strings.Join(words, ", ")
}

// resourcesText is numbers of resources for people, in the order of their names.
func resourcesText(resources map[string]int64) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(resources)) {
		words = append(words, name+"="+strconv.FormatInt(resources[name], 10))
	}
	return strings.Join(words, ", ")
}
