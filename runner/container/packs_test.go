package container

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container/inpod"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/share/staging"
)

// crowd is tasks that come to share pods of three.
type crowd struct {
	t      *testing.T
	packs  *packs
	spec   *navvy.Spec
	key    groupKey
	sealed []int // how many tasks each pack had
}

func newCrowd(t *testing.T) *crowd {
	c := &crowd{t: t, spec: &navvy.Spec{Container: &navvy.Container{Pack: 3}}}
	c.key = groupOf(newMember(&driver.Task{Spec: c.spec}))
	c.packs = newPacks(t.Context(), func(pk *pack) { c.sealed = append(c.sealed, len(pk.members)) })
	return c
}

func (c *crowd) join(size int) (*pack, *member) {
	m := newMember(&driver.Task{Spec: c.spec})
	m.load = inpod.Task{Argv: []string{string(make([]byte, size))}}
	c.packs.enter(c.key)
	return c.packs.join(nil, c.key, m), m
}

// after checks which packs are sealed some time later.
func (c *crowd) after(d time.Duration, want ...int) {
	c.t.Helper()
	<-time.After(d)
	synctest.Wait()
	c.packs.mu.Lock()
	defer c.packs.mu.Unlock()
	if len(c.sealed) != len(want) {
		c.t.Fatalf("there are packs of %v, want %v", c.sealed, want)
	}
	for i := range want {
		if c.sealed[i] != want[i] {
			c.t.Fatalf("there are packs of %v, want %v", c.sealed, want)
		}
	}
}

const moment = packLinger / 2

// Tasks that come together share pods; the last one has what is left.
func TestPackTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		for range 7 {
			c.join(1)
		}
		c.after(moment, 3, 3)
		c.join(1)
		c.after(moment, 3, 3)
		c.after(packLinger, 3, 3, 2)
		for range 8 {
			c.packs.ended(c.key)
		}
		if len(c.packs.groups) > 0 {
			t.Errorf("there are still %v", c.packs.groups)
		}
	})
}

// What comes into the places of tasks that have ended waits for more of its kind, while others
// run, and not for ever.
func TestPackInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		for range 6 {
			c.join(1)
		}
		c.after(moment, 3, 3)
		for range 3 {
			c.packs.ended(c.key)
			c.after(packPatience/100, 3, 3)
			c.join(1)
		}
		c.after(0, 3, 3, 3)
		c.packs.ended(c.key)
		c.join(1)
		c.after(packPatience/2, 3, 3, 3)
		c.after(packPatience/2, 3, 3, 3, 1)
		c.packs.ended(c.key)
		c.join(1)
		c.after(moment, 3, 3, 3, 1)
		for range 5 {
			c.packs.ended(c.key)
		}
		c.after(packLinger, 3, 3, 3, 1, 1)
	})
}

// A pack holds so much and no more.
func TestPackSize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		c.join(inpod.MaxSize * 2 / 3)
		c.join(inpod.MaxSize * 2 / 3)
		c.after(moment, 1)
		c.after(packLinger, 1, 1)
	})
}

// Who gives up before the pod is made leaves no trace; afterwards it is too late.
func TestPackWithdraw(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		first, a := c.join(1)
		_, b := c.join(1)
		if !c.packs.withdraw(first, a) || !c.packs.withdraw(first, b) || len(c.packs.groups) > 0 {
			t.Error("they are not gone")
		}
		c.after(2*packLinger, nil...)
		second, d := c.join(1)
		c.after(2*packLinger, 1)
		c.packs.remaining(second)
		if c.packs.withdraw(second, d) {
			t.Error("it left a pod that is made")
		}
	})
}

// Who gives up while its pod waits for room does so at once, and has no place in it; while it is
// being made, it does not wait for that for ever.
func TestPackQuit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		pk, a := c.join(1)
		_, b := c.join(1)
		c.join(1)
		c.after(0, 3)
		began := time.Now()
		if err := c.packs.await(ctx, pk, a); !errors.Is(err, context.Canceled) || time.Since(began) > 0 {
			t.Errorf("before it is made it ended with %v after %s", err, time.Since(began))
		}
		if list := c.packs.remaining(pk); len(list) != 2 || list[0] != b {
			t.Errorf("it is made for %d", len(list))
		}
		if err := c.packs.await(ctx, pk, b); !errors.Is(err, context.Canceled) || time.Since(began) != quitPatience {
			t.Errorf("while it is made it ended with %v after %s", err, time.Since(began))
		}
		if list := c.packs.quitters(pk.members); len(list) != 2 || list[1] != b {
			t.Errorf("%d are to be ended", len(list))
		}
	})
}

// Tasks that are in other Jobs by the time that a pod is made have no place in it.
func TestPackElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		pk, _ := c.join(1)
		_, b := c.join(1)
		b.task.ID.Index = 7
		c.after(2*packLinger, 2)
		c.packs.elsewhere(pk, map[int64]string{7: "another"})
		if list := c.packs.remaining(pk); len(list) != 1 || list[0] == b {
			t.Errorf("it is made for %d", len(list))
		}
		run := &packRun{}
		pk.members[0].run = run
		if list := c.packs.concluded(pk, run, nil); len(list) != 1 || list[0] != b || !closed(pk.made) {
			t.Errorf("%d are not in it", len(list))
		}
	})
}

// Tasks that share a pod have each their own words on buckets, under those of the job; the pod has
// none, but the account if all of them are on its server.
func TestPackBucketWords(t *testing.T) {
	t.Parallel()
	d := &Driver{opts: Options{Buckets: Buckets{Server: staging.Server{Endpoint: "http://minio:9000"}, Secret: "account"}}}
	s := &space{driver: d}
	var members []*member
	var keys []groupKey
	for i, bucket := range []string{"http://minio:9000/one", "http://minio:9000/two", "http://other:9000/three"} {
		c := &navvy.Container{Pack: 3, Image: "img", Entrypoint: []string{"p"}, Buckets: navvy.Buckets{Input: bucket, Prefix: "$(X)"}}
		c.Command = navvy.Command{Literal: true, Args: []string{"a"}, Env: []string{"MINIO_SERVICE_PORT=1"}}
		m := s.member(&driver.Task{ID: navvy.TaskID{Index: int64(i)}, Spec: &navvy.Spec{Container: c}, Env: []string{"AWS_ENDPOINT_URL="}})
		m.load = packedTask(m, []string{"a"})
		want := []string{
			fmt.Sprintf("NAVVY_TASK=%d", i), "NAVVY_ATTEMPT=1", "INPUT_BUCKET_URL=" + bucket, "OUTPUT_BUCKET_URL=" + bucket,
			"FILE_PREFIX=$(X)", "MINIO_SERVICE_HOST=minio", "AWS_ENDPOINT_URL=",
		}
		if !slices.Equal(m.load.Env, want) {
			t.Errorf("task %d has %q, want %q", i, m.load.Env, want)
		}
		members, keys = append(members, m), append(keys, groupOf(m))
	}
	if keys[0] != keys[1] || keys[0] == keys[2] {
		t.Errorf("their groups are %+v", keys)
	}
	for _, c := range []struct {
		members []*member
		account int
	}{{members[:2], 2}, {members[2:], 0}} {
		job, err := d.packJob(c.members, "token")
		if err != nil {
			t.Fatal(err)
		}
		account := 0
		for _, v := range job.Spec.Template.Spec.Containers[0].Env {
			switch {
			case v.ValueFrom != nil:
				account++
			case strings.Contains(v.Name, "BUCKET") || v.Name == envPrefix:
				t.Errorf("the pod has %+v", v)
			}
		}
		if account != c.account {
			t.Errorf("the pod of %d tasks has %d words of an account, want %d", len(c.members), account, c.account)
		}
	}
}
