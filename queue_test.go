package navvy_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
)

func TestValidateQueue(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]error{
		"default": nil, "gpu": nil, "a/b c": nil, "nächtlich": nil, strings.Repeat("x", navvy.MaxJobName): nil,
		"": navvy.ErrInvalid, strings.Repeat("x", navvy.MaxJobName+1): navvy.ErrInvalid, "a\x00b": navvy.ErrInvalid, "a\n": navvy.ErrInvalid,
		"a\xff": navvy.ErrInvalid, "nats://host/q": navvy.ErrUnsupported,
	} {
		if err := navvy.ValidateQueue(name); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
	}
}

func TestQueueSettings(t *testing.T) {
	t.Parallel()
	for s, ok := range map[navvy.QueueSettings]bool{
		{}: true, {Paused: true, Concurrency: 1, Rate: 0.5}: true, {Concurrency: navvy.MaxQueueConcurrency, Rate: navvy.MaxQueueRate}: true,
		{Rate: navvy.MinQueueRate}: true, {Concurrency: -1}: false, {Concurrency: navvy.MaxQueueConcurrency + 1}: false,
		{Work: &navvy.Spec{Service: &navvy.Service{Form: "echo"}}}: true, {Work: &navvy.Spec{Service: &navvy.Service{}}}: false,
		{Work: &navvy.Spec{Noop: &navvy.Noop{}}}: false, {Work: &navvy.Spec{}}: false,
		{Rate: -1}: false, {Rate: 1e7}: false, {Rate: 1e-9}: false, {Rate: math.NaN()}: false, {Rate: math.Inf(1)}: false,
	} {
		if err := s.Validate(); (err == nil) != ok || err != nil && !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
