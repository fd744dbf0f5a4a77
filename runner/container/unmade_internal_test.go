package container

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func event(reason, message string, first, last int) corev1.Event {
	return corev1.Event{Reason: reason, Message: message, FirstTimestamp: at(first), LastTimestamp: at(last)}
}

func TestWhyNoPod(t *testing.T) {
	t.Parallel()
	const webhook = `admission webhook "check.example" denied the request: no`
	for name, c := range map[string]struct {
		events []corev1.Event
		why    string
		lasts  time.Duration
	}{
		"nothing is told": {},
		"refused for a while": {
			[]corev1.Event{event("FailedCreate", "Error creating: b", 60, 60), event("FailedCreate", "Error creating: a", 1, 31)}, "b", 59 * time.Second,
		},
		"many times": {
			[]corev1.Event{event("FailedCreate", "(combined from similar events): Error creating: "+webhook, 0, 90)}, webhook, 90 * time.Second,
		},
		"and made": {events: []corev1.Event{event("FailedCreate", "Error creating: a", 0, 9), event("SuccessfulCreate", "Created pod: p", 10, 10)}},
	} {
		if why, lasts := whyNoPod(c.events); why != c.why || lasts != c.lasts {
			t.Errorf("%s: %q for %s", name, why, lasts)
		}
	}
}

func TestForGood(t *testing.T) {
	t.Parallel()
	for why, want := range map[string]bool{
		`pods "p-" is forbidden: error looking up service account n/a: serviceaccount "a" not found`:               true,
		`pods "p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false`:       true,
		`admission webhook "check.example" denied the request: no`:                                                 true,
		`Pod "p" is invalid: spec.containers[0].name: Required value`:                                              true,
		`pods "p" is forbidden: failed quota: q: must specify limits.cpu for: main`:                                true,
		`pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1`:               false,
		`pods "p" is forbidden: status unknown for quota: q, resources: pods`:                                      false,
		`Internal error occurred: failed calling webhook "check.example": Post "https://x": dial tcp: i/o timeout`: false,
		`etcdserver: request timed out`: false,
		``:                              false,
	} {
		if got := forGood(why); got != want {
			t.Errorf("%q is for good: %t", why, got)
		}
	}
}
