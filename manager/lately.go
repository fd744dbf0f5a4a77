package manager

import "time"

// latelySeconds is how far back is looked to tell how many tasks end in a second.
const latelySeconds = 10

// lately counts what ends in each of the last seconds, and in this one.
type lately struct {
	counts [latelySeconds + 1]int64
	second int64 // Unix time of the newest count
}

// at goes to the second of now. A clock that was set back leaves it where it is, one that was
// set back by far has it begin anew.
func (l *lately) at(now time.Time) {
	second := now.Unix()
	if ahead := second - l.second; ahead > latelySeconds || ahead < -latelySeconds {
		*l = lately{second: second}
		return
	}
	for l.second < second {
		l.second++
		l.counts[l.second%int64(len(l.counts))] = 0
	}
}

// add counts one.
func (l *lately) add(now time.Time) {
	l.at(now)
	l.counts[l.second%int64(len(l.counts))]++
}

// perSecond is how many there were in a second.
func (l *lately) perSecond(now time.Time) float64 {
	l.at(now)
	sum := int64(0)
	for _, n := range l.counts {
		sum += n
	}
	const nanos = float64(time.Second)
	return float64(sum) / (latelySeconds + float64(now.Nanosecond())/nanos)
}

// Answered is how many tasks of a queue had their result in a second, over the last ten. Of a
// queue without settings it is known only while jobs of it are served.
func (m *Manager) Answered(name string) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if q := m.queues[name]; q != nil {
		return q.answered.perSecond(m.opts.Clock())
	}
	return 0
}
