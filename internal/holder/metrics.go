package holder

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/internal/meter"
	"github.com/navvy-run/navvy/manager"
)

// newMetrics makes the registry of a server: its own numbers, and those of its process.
func (h *Holder) newMetrics() (*prometheus.Registry, error) {
	r := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector{h},
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// collector reads the numbers when somebody asks for them.
type collector struct{ h *Holder }

// number is what a metric means.
func number(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("navvy_"+name, help, labels, nil)
}

// The metrics. Their labels are states, queues and nothing else of the users'.
var (
	buildInfo = number("build_info", "1, with the version of navvy.", "version")
	ready     = number("ready", "1 if new jobs are taken, 0 if not.")

	tasksNow   = number("tasks", "Tasks of the jobs being served now, by state; jobs that wait behind them are not counted.", "state", "queue")
	jobsNow    = number("jobs", "Jobs being served now.", "queue")
	wantedNow  = number("tasks_wanted", "Tasks that workers are wanted for, by the kind of their work: those that run, and those that could if there were workers enough.", "kind", "queue")
	workersNow = number("workers", "Workers that are connected.")

	attempts  = number("attempts_started_total", "Attempts that were given to workers.")
	results   = number("results_total", "Tasks that have their result, by its state.", "state")
	ended     = number("attempts_ended_total", "Attempts that have not become a result: retried, lost with their worker, or refused because they came too late.", "how")
	expiries  = number("lease_expiries_total", "Leases that ran out.")
	usedCPU   = number("task_cpu_seconds_total", "Processor time that attempts have used.", "mode")
	usedIO    = number("task_io_bytes_total", "Bytes that attempts have read from disks or written to them.", "direction")
	throttled = number("task_throttled_seconds_total", "How long attempts wanted to run and their limit of processor time did not let them.")
	oomKills  = number("task_oom_kills_total", "Processes of attempts that were killed for want of memory.")
	submits   = number("submit_seconds", "Time until a job was durable, from its last input on.")
	dispatch  = number("dispatch_seconds", "Time from a job's acceptance to the start of its first task.")
	settling  = number("result_seconds", "Time from a worker's report until it was settled on disk.")
	syncs     = number("fsync_seconds", "Time until one write was durable.")
	storeSize = number("store_bytes", "About what all jobs take on disk.")
	storeFree = number("store_free_bytes", "What can still be written.")

	connections = number("connections", "Connections from the network: of strangers, whose handshake is not over, and of those that join.", "of")
)

// Describe implements prometheus.Collector: what there is shows when it is collected.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	h := c.h
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	histogram := func(d *prometheus.Desc, m *meter.Histogram) {
		count, sum, within := m.Read()
		out <- prometheus.MustNewConstHistogram(d, count, sum.Seconds(), within)
	}
	gauge(buildInfo, 1, h.cfg.Version)
	if h.Ready() == nil {
		gauge(ready, 1)
	} else {
		gauge(ready, 0)
	}
	for _, l := range h.mgr.Loads() {
		gauge(jobsNow, float64(l.Jobs), l.Queue)
		gauge(tasksNow, float64(l.Queued), "queued", l.Queue)
		gauge(tasksNow, float64(l.Running), "running", l.Queue)
		gauge(tasksNow, float64(l.Waits), "settling", l.Queue)
	}
	c.collectWanted(func(v float64, labels ...string) { gauge(wantedNow, v, labels...) })
	gauge(workersNow, float64(len(h.mgr.Workers())))
	m := h.mgr.Meters()
	counter(attempts, m.Started.Load())
	counter(results, m.Succeeded.Load(), "succeeded")
	counter(results, m.Failed.Load(), "failed")
	counter(ended, m.Retried.Load(), "retried")
	counter(ended, m.Lost.Load(), "lost")
	counter(ended, m.Refused.Load(), "refused")
	counter(expiries, m.Expired.Load())
	seconds := func(d *prometheus.Desc, ns int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, time.Duration(ns).Seconds(), labels...)
	}
	seconds(usedCPU, m.Used.User.Load(), "user")
	seconds(usedCPU, m.Used.System.Load(), "system")
	seconds(throttled, m.Used.Throttled.Load())
	counter(usedIO, m.Used.Read.Load(), "read")
	counter(usedIO, m.Used.Written.Load(), "write")
	counter(oomKills, m.Used.OOMKills.Load())
	histogram(submits, &m.Submit)
	histogram(dispatch, &m.Dispatch)
	histogram(settling, &m.Result)
	histogram(syncs, &h.syncs)
	gauge(storeSize, float64(h.eng.Size()))
	if free := h.eng.Info().Free; free != nil {
		if n, err := free(); err == nil {
			gauge(storeFree, float64(n))
		}
	}
	if h.door != nil {
		gauge(connections, float64(h.door.strangers.count()), "strangers")
		gauge(connections, float64(h.door.joining.count()), "joining")
	}
}

// collectTime bounds what is read of the store while numbers are collected.
const collectTime = 5 * time.Second

// maxQueues is how many registered queues have numbers also when they are empty.
const maxQueues = 1000

// collectWanted counts what workers are wanted for: each kind of work in the queue of those that
// name none, in those that are registered, and in those of the jobs being served. What has
// nothing to do is 0 and not unknown: an autoscaler leaves alone what it knows nothing of.
func (c collector) collectWanted(tell func(float64, ...string)) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTime)
	defer cancel()
	fail := func(err error) {
		c.h.cfg.Logger.Warn("what workers are wanted for is not counted", "error", err)
	}
	registered, _, err := c.h.eng.Registry().List(ctx, engine.KindQueue, "", "", maxQueues)
	if err != nil {
		fail(err)
		return
	}
	queues := []string{navvy.DefaultQueue}
	for i := range registered {
		queues = append(queues, registered[i].Name)
	}
	queues = append(queues, c.h.mgr.WantQueues()...)
	slices.Sort(queues)
	for _, queue := range slices.Compact(queues) {
		for _, kind := range []string{navvy.KindCommand, navvy.KindContainer, navvy.KindFunction, navvy.KindService} {
			n, err := c.h.mgr.Wanted(ctx, &manager.Want{Queue: queue, Kind: kind})
			if err != nil {
				fail(err)
				return
			}
			tell(float64(n.Total()), kind, queue)
		}
	}
}
