package cgroup

import (
	"fmt"
	"math"
	"strconv"

	"github.com/navvy-run/navvy"
)

// setting is one value of one control file.
type setting struct {
	ability    navvy.Ability // what it enforces
	controller string
	file       string
	value      string
	optional   bool // the file may be missing: then there is nothing to bound
}

// period is how often a processor's time is shared out, in microseconds.
const period = 100_000

// disks are device numbers, MAJOR:MINOR.
type disks []string

// settings are what enforces the limits in a hierarchy of the version.
func settings(version int, l *navvy.Limits, on disks) []setting {
	if version == 2 {
		return append(settingsV2(l), ioV2(l, on)...)
	}
	return append(settingsV1(l), ioV1(l, on)...)
}

func settingsV2(l *navvy.Limits) (list []setting) {
	if l.CPUs > 0 {
		list = append(list, setting{navvy.AbilityCPUs, "cpu", "cpu.max", fmt.Sprintf("%d %d", quota(l.CPUs), period), false})
	}
	if l.CPUShares > 0 {
		list = append(list, setting{navvy.AbilityCPUShares, "cpu", "cpu.weight", decimal(weight(l.CPUShares)), false})
	}
	if l.Memory > 0 {
		list = append(list,
			setting{navvy.AbilityMemory, "memory", "memory.max", decimal(l.Memory), false},
			setting{navvy.AbilityMemory, "memory", "memory.swap.max", "0", true},
			// One killed process of several would leave an attempt that answers wrongly.
			setting{navvy.AbilityMemory, "memory", "memory.oom.group", "1", true})
	}
	if l.PIDs > 0 {
		list = append(list, setting{navvy.AbilityPIDs, "pids", "pids.max", decimal(l.PIDs), false})
	}
	return list
}

func settingsV1(l *navvy.Limits) (list []setting) {
	if l.CPUs > 0 {
		list = append(list,
			setting{navvy.AbilityCPUs, "cpu", "cpu.cfs_period_us", decimal(period), false},
			setting{navvy.AbilityCPUs, "cpu", "cpu.cfs_quota_us", decimal(quota(l.CPUs)), false})
	}
	if l.CPUShares > 0 {
		list = append(list, setting{navvy.AbilityCPUShares, "cpu", "cpu.shares", decimal(l.CPUShares), false})
	}
	if l.Memory > 0 {
		list = append(list,
			setting{navvy.AbilityMemory, "memory", "memory.limit_in_bytes", decimal(l.Memory), false},
			// Memory and swap together: none of it can be swap.
			setting{navvy.AbilityMemory, "memory", "memory.memsw.limit_in_bytes", decimal(l.Memory), true})
	}
	if l.PIDs > 0 {
		list = append(list, setting{navvy.AbilityPIDs, "pids", "pids.max", decimal(l.PIDs), false})
	}
	return list
}

func ioV2(l *navvy.Limits, on disks) (list []setting) {
	for _, io := range [...]struct {
		value   int64
		ability navvy.Ability
		key     string
	}{
		{l.ReadBPS, navvy.AbilityReadBPS, "rbps"}, {l.WriteBPS, navvy.AbilityWriteBPS, "wbps"},
		{l.ReadIOPS, navvy.AbilityReadIOPS, "riops"}, {l.WriteIOPS, navvy.AbilityWriteIOPS, "wiops"},
	} {
		for _, disk := range on {
			if io.value > 0 {
				list = append(list, setting{io.ability, "io", "io.max", fmt.Sprintf("%s %s=%d", disk, io.key, io.value), false})
			}
		}
	}
	return list
}

func ioV1(l *navvy.Limits, on disks) (list []setting) {
	for _, io := range [...]struct {
		value   int64
		ability navvy.Ability
		file    string
	}{
		{l.ReadBPS, navvy.AbilityReadBPS, "blkio.throttle.read_bps_device"},
		{l.WriteBPS, navvy.AbilityWriteBPS, "blkio.throttle.write_bps_device"},
		{l.ReadIOPS, navvy.AbilityReadIOPS, "blkio.throttle.read_iops_device"},
		{l.WriteIOPS, navvy.AbilityWriteIOPS, "blkio.throttle.write_iops_device"},
	} {
		for _, disk := range on {
			if io.value > 0 {
				list = append(list, setting{io.ability, "blkio", io.file, disk + " " + decimal(io.value), false})
			}
		}
	}
	return list
}

// limitsIO tells whether l bounds what goes to disks.
func limitsIO(l *navvy.Limits) bool {
	return l.ReadBPS > 0 || l.WriteBPS > 0 || l.ReadIOPS > 0 || l.WriteIOPS > 0
}

// quota is how many microseconds a group gets in each period. The kernel wants
// a thousand at least.
func quota(milli int64) int64 { return max(milli*(period/1000), 1000) }

// weight turns shares into version 2's weight, 1 to 10,000, so that the defaults
// of both, 1024 and 100, mean the same, and so do their ends: the curve that
// github.com/opencontainers/cgroups uses (ConvertCPUSharesToCgroupV2Value).
func weight(shares int64) int64 {
	x := math.Log2(float64(min(max(shares, navvy.MinCPUShares), navvy.MaxCPUShares)))
	return int64(math.Ceil(math.Pow(10, (x*x+125*x)/612-7.0/34) - 1e-9))
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
