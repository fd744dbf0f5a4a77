package config

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// What holds if a file does not say.
const (
	defaultRequest                = "requests"
	defaultResponse               = "responses"
	defaultLease         Duration = Duration(time.Minute)
	defaultAttempts               = 5
	defaultUpTimeout     Duration = Duration(30 * time.Second)
	defaultConcurrency            = 1
	defaultServiceBusSKU          = "Standard"
	defaultStorageSKU             = "Standard_LRS"
	defaultAzureCPUs              = "1"
	defaultAzureMemory            = "1.5G"
	resourceGroupOf               = "navvy-"
)

// Defaults is a copy of a cluster in which everything is set that a file may leave open and
// that does not depend on the machine: drivers see it whole. The section of its provider is
// there, and no other one.
func Defaults(c *Cluster) *Cluster {
	d := *c
	d.Version = Version
	d.Share = slices.Clone(c.Share)
	d.Workers.Environment = maps.Clone(c.Workers.Environment)
	d.Workers.Labels = maps.Clone(c.Workers.Labels)
	d.queueDefaults()
	switch d.Service.Kind {
	case ServiceLines, ServiceLinesJSON, ServiceGRPC, ServiceGRPCAny:
		d.Service.UpTimeout = cmp.Or(d.Service.UpTimeout, defaultUpTimeout)
	case ServiceEcho, ServiceCGI, ServiceCommand:
	}
	w := &d.Workers
	w.Concurrency = cmp.Or(w.Concurrency, defaultConcurrency)
	if w.Autoscale != nil {
		w.Count = cmp.Or(w.Count, w.Autoscale.Min)
	}
	d.providerDefaults()
	return &d
}

func (c *Cluster) queueDefaults() {
	q := &c.Queue
	q.Request = cmp.Or(q.Request, defaultRequest)
	if !q.Kind.Server() {
		q.Response = cmp.Or(q.Response, defaultResponse)
	}
	q.Lease = cmp.Or(q.Lease, defaultLease)
	q.Attempts = cmp.Or(q.Attempts, defaultAttempts)
	if c.Provider != ProviderAzure || q.URL != nil {
		return
	}
	switch q.Kind {
	case QueueServiceBus:
		q.SKU = cmp.Or(q.SKU, defaultServiceBusSKU)
	case QueueStorage:
		q.SKU = cmp.Or(q.SKU, defaultStorageSKU)
	case QueueNavvy, QueueNATS, QueueRabbitMQ, QueueRedis:
	}
}

func (c *Cluster) providerDefaults() {
	switch c.Provider {
	case ProviderLocal:
		c.Local = copyOf(c.Local)
	case ProviderSSH:
		c.SSH = copyOf(c.SSH)
		if c.SSH.Tunnel == nil {
			tunnel := c.SSH.Server == ""
			c.SSH.Tunnel = &tunnel
		}
	case ProviderKubernetes:
		c.Kubernetes = copyOf(c.Kubernetes)
		c.Kubernetes.Namespace = cmp.Or(c.Kubernetes.Namespace, c.Name)
		if c.Workers.Autoscale != nil {
			c.Kubernetes.Scaler = cmp.Or(c.Kubernetes.Scaler, ScalerKEDA)
		}
	case ProviderAzure:
		c.Azure = copyOf(c.Azure)
		c.Azure.ResourceGroup = cmp.Or(c.Azure.ResourceGroup, resourceGroupOf+c.Name)
		c.Azure.Compute = cmp.Or(c.Azure.Compute, ComputeACI)
		if c.Azure.Compute == ComputeAKS {
			c.Azure.AKS = copyOf(c.Azure.AKS)
			c.Azure.AKS.VMSize = cmp.Or(c.Azure.AKS.VMSize, DefaultVMSize)
		}
		c.Workers.CPUs = cmp.Or(c.Workers.CPUs, defaultAzureCPUs)
		c.Workers.Memory = cmp.Or(c.Workers.Memory, defaultAzureMemory)
	}
}

// copyOf is a section of its own, empty if there is none.
func copyOf[T any](section *T) *T {
	if section == nil {
		return new(T)
	}
	own := *section
	return &own
}
