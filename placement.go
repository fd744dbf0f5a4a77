package navvy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ResourceGPU is the resource whose units are numbered: a task that asks for some
// finds the numbers of its own in CUDA_VISIBLE_DEVICES.
const ResourceGPU = "gpu"

// Bounds of labels and resources.
const (
	// MaxPlaces is how many labels, and how many resources, a job may ask for and a worker may have.
	MaxPlaces = 64
	// MaxPlaceName bounds the name and the value of a label and the name of a resource, in bytes.
	MaxPlaceName = 128
	// MaxUnits is how many units of a resource there may be.
	MaxUnits = 1 << 20
)

// ValidateLabels checks labels. The error names the label and wraps ErrInvalid.
func ValidateLabels(labels map[string]string) error {
	if len(labels) > MaxPlaces {
		return fmt.Errorf("labels: %d are too many, %d are the most: %w", len(labels), MaxPlaces, ErrInvalid)
	}
	for _, name := range sortedNames(labels) {
		if err := validatePlaceName("label", name); err != nil {
			return err
		}
		value := labels[name]
		switch {
		case len(value) > MaxPlaceName:
			return fmt.Errorf("label %s: its value has %d bytes, more than %d: %w", name, len(value), MaxPlaceName, ErrInvalid)
		case !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }):
			return fmt.Errorf("label %s: its value %q is not plain text: %w", name, value, ErrInvalid)
		}
	}
	return nil
}

// ValidateResources checks numbers of resources. The error names the resource and wraps ErrInvalid.
func ValidateResources(resources map[string]int64) error {
	if len(resources) > MaxPlaces {
		return fmt.Errorf("resources: %d are too many, %d are the most: %w", len(resources), MaxPlaces, ErrInvalid)
	}
	for _, name := range sortedNames(resources) {
		if err := validatePlaceName("resource", name); err != nil {
			return err
		}
		if n := resources[name]; n < 1 || n > MaxUnits {
			return fmt.Errorf("resource %s: want 1 to %d of it, not %d: %w", name, MaxUnits, n, ErrInvalid)
		}
	}
	return nil
}

// sortedNames are the names of a map, which is empty as a rule.
func sortedNames[V any](m map[string]V) []string {
	if len(m) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(m))
}

func validatePlaceName(what, name string) error {
	if name == "" || len(name) > MaxPlaceName || !namely(name) {
		return fmt.Errorf("%s %.200q: want a name of 1 to %d lower-case letters, digits and . _ / -: %w", what, name, MaxPlaceName, ErrInvalid)
	}
	return nil
}

// namely tells whether a text has only such characters as names of labels and resources have.
func namely(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._/-", r))
	})
}

// Offer is what a worker has for the tasks that it runs.
type Offer struct {
	// Labels say what kind of worker it is.
	Labels map[string]string
	// CPUs, in thousandths of a core, and Memory, in bytes, are shared out among the
	// tasks that have such limits. Zero does not count: any number of tasks may.
	CPUs, Memory int64
	// Resources are countable: how many units it has of each.
	Resources map[string]int64
}

// Validate checks the offer. The error names what is wrong and wraps ErrInvalid.
func (o *Offer) Validate() error {
	if o.CPUs < 0 || o.Memory < 0 {
		return fmt.Errorf("cpus and memory of a worker cannot be negative: %w", ErrInvalid)
	}
	if err := ValidateLabels(o.Labels); err != nil {
		return err
	}
	return ValidateResources(o.Resources)
}

// Fits tells whether there would be room for an attempt of s if nothing else ran.
func (o *Offer) Fits(s *Spec) bool {
	for name, value := range s.Labels {
		if has, ok := o.Labels[name]; !ok || has != value {
			return false
		}
	}
	empty := Room{Offer: o}
	return empty.Has(s)
}

// Room is how much of an offer is in use. With its Offer set it is empty, and ready.
// It is for one goroutine at a time.
type Room struct {
	Offer        *Offer
	cpus, memory int64
	resources    map[string]int64
}

// Has tells whether there is room for one more attempt of s.
func (r *Room) Has(s *Spec) bool {
	if !s.Reserves() {
		return true
	}
	cpus, memory, units := s.reserved()
	if r.Offer.CPUs > 0 && cpus > r.Offer.CPUs-r.cpus || r.Offer.Memory > 0 && memory > r.Offer.Memory-r.memory {
		return false
	}
	for name, n := range units {
		if n > r.Offer.Resources[name]-r.resources[name] {
			return false
		}
	}
	return true
}

// Take reserves what an attempt of s asks for, whether there is room for it or not.
func (r *Room) Take(s *Spec) { r.change(s, 1) }

// Give takes back what Take has reserved.
func (r *Room) Give(s *Spec) { r.change(s, -1) }

func (r *Room) change(s *Spec, sign int64) {
	if !s.Reserves() {
		return
	}
	cpus, memory, units := s.reserved()
	if r.Offer.CPUs > 0 {
		r.cpus += sign * cpus
	}
	if r.Offer.Memory > 0 {
		r.memory += sign * memory
	}
	for name, n := range units {
		if r.resources == nil {
			r.resources = map[string]int64{}
		}
		if r.resources[name] += sign * n; r.resources[name] == 0 {
			delete(r.resources, name)
		}
	}
}

// Used is what is reserved, as an offer that would be full.
func (r *Room) Used() Offer {
	return Offer{CPUs: r.cpus, Memory: r.memory, Resources: maps.Clone(r.resources)}
}

// Reserves tells whether an attempt of s has a share of its worker to itself.
func (s *Spec) Reserves() bool {
	cpus, memory, units := s.reserved()
	return cpus|memory != 0 || len(units) > 0
}

// reserved is how much of its worker an attempt has to itself. A container has its
// processors, memory and GPUs elsewhere.
func (s *Spec) reserved() (cpus, memory int64, units map[string]int64) {
	if s.Container == nil {
		return s.Limits.CPUs, s.Limits.Memory, s.Resources
	}
	if _, gpu := s.Resources[ResourceGPU]; !gpu {
		return 0, 0, s.Resources
	}
	units = maps.Clone(s.Resources)
	delete(units, ResourceGPU)
	return 0, 0, units
}
