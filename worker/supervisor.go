package main

import (
	"context"
	"errors"
	"os"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/keeper"
	"github.com/holdfast-pg/holdfast/internal/supervise"
	"github.com/holdfast-pg/holdfast/workflows/engine"
)

// roles in the order in which they are stopped: a keeper that drains needs the
// others until its sessions have ended.
var roles = []string{"keeper", "copy", "workflow"}

// supervise runs one process of each role and starts what dies again. A dead
// keeper's sessions are reported lost at once.
func (p *process) supervise(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fault.Wrap(fault.Internal, "find", "our own program", err)
	}
	reporting, stopReporting := context.WithCancel(context.Background())
	defer stopReporting()
	go p.reportDead(reporting)
	go p.keepReceivers(reporting)
	var stops []func() <-chan struct{}
	for _, role := range roles {
		running, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		stops = append(stops, func() <-chan struct{} { cancel(); return ended })
		go func() {
			defer close(ended)
			p.keep(running, self, role)
		}()
	}
	<-ctx.Done()
	keeperEnded := stops[0]()
	if p.drain > 0 {
		<-keeperEnded
	}
	for _, stop := range stops[1:] {
		defer func(ended <-chan struct{}) { <-ended }(stop())
	}
	<-keeperEnded
	return nil
}

func (p *process) keep(ctx context.Context, self, role string) {
	child := supervise.Child{Path: self, StopWithin: p.drain + 30*time.Second,
		Args: []string{"--config", p.path, "--role", role, "--log-level", p.logLevel, "--drain-timeout", p.drain.String()},
		Ended: func(err error, pause time.Duration) {
			p.log.Warn("a role ended and is started again", "ended", role, "error", err, "pause", pause)
		}}
	if err := child.Keep(ctx); err != nil {
		p.log.Error("a role cannot be kept running", "ended", role, "error", err)
	}
}

// reportDead fails the holds of keepers that died, so that their backups go on
// at once instead of after a heartbeat timeout.
func (p *process) reportDead(ctx context.Context) {
	var c client.Client
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		records, err := keeper.Records(p.global.HoldfastStateDirectory)
		if err != nil {
			p.log.Error("the records of sessions cannot be read", "error", err)
			continue
		}
		for _, r := range records {
			if r.KeeperAlive() {
				continue
			}
			if c == nil {
				if c, err = p.dial(ctx); err != nil {
					break
				}
				defer c.Close()
			}
			p.reportLost(ctx, c, r)
		}
	}
}

func (p *process) reportLost(ctx context.Context, c client.Client, r keeper.Record) {
	o, err := namespaceOf(p)
	if err != nil {
		p.log.Error("the namespace is not known", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	lost := temporal.NewNonRetryableApplicationError("the keeper of the backup session died", string(fault.SessionLost), nil)
	err = c.CompleteActivityByID(ctx, o, r.WorkflowID, r.RunID, r.ActivityID, nil, lost)
	if err != nil && !isGone(err) {
		p.log.Warn("a lost session cannot be reported yet", "epoch", r.Epoch, "error", err)
		return
	}
	p.log.Warn("a keeper died; its session is reported lost", "server", r.Server, "epoch", r.Epoch)
	if err := keeper.Forget(p.global.HoldfastStateDirectory, r.Epoch); err != nil {
		p.log.Error("a session record cannot be removed", "error", err)
	}
}

func namespaceOf(p *process) (string, error) {
	o, err := engine.Options(p.global.HoldfastStateDirectory, p.log)
	return o.Namespace, err
}

func isGone(err error) bool {
	var gone *serviceerror.NotFound
	return errors.As(err, &gone)
}
