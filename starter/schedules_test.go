package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// slowEngine does after a while what it was asked for.
type slowEngine struct {
	client.ScheduleHandle
	at  time.Time
	err error
}

func (e slowEngine) Describe(ctx context.Context) (*client.ScheduleDescription, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	state := &client.ScheduleState{Paused: time.Now().After(e.at)}
	return &client.ScheduleDescription{Schedule: client.Schedule{State: state}}, e.err
}

func TestABusyEngineIsWaitedFor(t *testing.T) {
	paused := func(s client.Schedule) bool { return s.State.Paused }
	for _, c := range []struct {
		after time.Duration
		err   error
		hint  string
	}{
		{20 * time.Second, nil, ""},
		{time.Hour, nil, "holdfast schedule list"},
		{0, errors.New("no route"), "holdfast up"},
	} {
		synctest.Test(t, func(t *testing.T) {
			err := settled(t.Context(), slowEngine{at: time.Now().Add(c.after), err: c.err}, paused)
			switch {
			case c.hint == "" && err != nil:
				t.Errorf("after %s: %v", c.after, err)
			case c.hint != "" && (!fault.Is(err, fault.Unreachable) || !strings.Contains(fault.HintOf(err), c.hint)):
				t.Errorf("after %s: %v, %q", c.after, err, fault.HintOf(err))
			}
		})
	}
}
