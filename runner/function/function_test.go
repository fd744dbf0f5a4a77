package function_test

import (
	"testing"

	"github.com/navvy-run/navvy/runner/function"
)

func TestCall(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	for range 3 {
		a, end := call(t, d, "def f(a, b=1):\n    print('out', a)\n    return [a + b]\n", "2")
		if end.Refusal != nil || a.value.String() != "[3]" || a.out.String() != "out 2\n" || a.err.String() != "" {
			t.Errorf("ended as %+v %+v with value %q, output %q, %q", end, end.Refusal, &a.value, &a.out, &a.err)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	d := open(b, function.Options{Hosts: 1})
	f := source("def f():\n    pass\n")
	a := calling(f, "{}")
	run(b, d, a)
	b.ReportAllocs()
	for b.Loop() {
		a.value.Reset()
		if end := run(b, d, a); end.Refusal != nil {
			b.Fatal(end.Refusal)
		}
	}
}

// BenchmarkBatch makes a thousand calls in one.
func BenchmarkBatch(b *testing.B) {
	d := open(b, function.Options{Hosts: 1})
	a := picklingly(b, source("def f(x):\n    return x\n"), "[((i,), {}) for i in range(1000)]")
	a.Spec.Function.Batch = true
	for b.Loop() {
		a.value.Reset()
		if end := run(b, d, a); end.Refusal != nil {
			b.Fatal(end.Refusal)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/call")
}

// BenchmarkStart starts a host for each call.
func BenchmarkStart(b *testing.B) {
	d := open(b, function.Options{Hosts: 1, Calls: 1})
	a := calling(source("def f():\n    pass\n"), "{}")
	for b.Loop() {
		a.value.Reset()
		if end := run(b, d, a); end.Refusal != nil {
			b.Fatal(end.Refusal)
		}
	}
}
