package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/keeper"
	"github.com/holdfast-pg/holdfast/internal/memlimit"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/snapshot/providers"
	"github.com/holdfast-pg/holdfast/workflows"
	"github.com/holdfast-pg/holdfast/workflows/engine"
)

// process is this process: a role, or the supervisor.
type process struct {
	options
	path   string // of the configuration
	global config.Global
	log    *slog.Logger
}

// engineWait is how long a worker waits for an engine that does not answer
// before it gives up and is started again.
const engineWait = time.Minute

func (p *process) dial(ctx context.Context) (client.Client, error) {
	for deadline := time.Now().Add(engineWait); ; {
		c, err := engine.Dial(ctx, p.global.HoldfastStateDirectory, p.log, 5*time.Second)
		if err == nil || !fault.Is(err, fault.Unreachable) || time.Now().After(deadline) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Cancelled, "reach", "the engine", ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (p *process) workerOptions() worker.Options {
	return worker.Options{
		// It is also the outage of the engine that passes unnoticed.
		MaxHeartbeatThrottleInterval: min(10*time.Second, p.heartbeat/3),
		WorkerStopTimeout:            5 * time.Second,
	}
}

// serve runs a role until ctx ends.
func (p *process) serve(ctx context.Context) error {
	c, err := p.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if p.role == "keeper" {
		return p.serveKeeper(ctx, c)
	}
	queue := activities.WorkflowQueue
	if p.role == "copy" {
		queue = activities.CopyQueue
		memlimit.Set(copyMemory)
	}
	o := p.workerOptions()
	o.DisableWorkflowWorker = p.role == "copy"
	o.Interceptors = interceptors(p.role)
	w := worker.New(c, queue, o)
	servers := p.servers()
	w.RegisterActivity(&activities.Catalogue{Servers: servers, Stores: drivers.Open, Snapshots: providers.Open})
	if p.role == "copy" {
		w.RegisterActivity(&activities.BaseBackup{Servers: servers, Connect: connect})
		w.RegisterActivity(&activities.Files{Servers: servers})
		w.RegisterActivity(&activities.Cloud{Servers: servers, Stores: drivers.Open})
		w.RegisterActivity(&activities.Snapshots{Servers: servers, Open: providers.Open})
		w.RegisterActivity(&activities.Proof{Servers: servers, Stores: drivers.Open, Snapshots: providers.Open})
	} else {
		w.RegisterWorkflow(workflows.BackupWorkflow)
		w.RegisterWorkflow(workflows.ScheduledBackupWorkflow)
		w.RegisterWorkflow(workflows.MaintenanceWorkflow)
		w.RegisterWorkflow(workflows.ReplicasWorkflow)
		w.RegisterActivity(&activities.Maintenance{Servers: servers, Stores: drivers.Open, Snapshots: providers.Open, Running: running(c), Exclusive: connectExclusive})
		w.RegisterActivity(&activities.Preflight{Servers: servers, Connect: connect, Stores: drivers.Open, Snapshots: providers.Open, Heartbeat: p.heartbeat})
		w.RegisterActivity(&activities.Hooks{Servers: servers})
		w.RegisterActivity(&activities.WAL{Servers: servers, Stores: drivers.Open, Connect: connect, Snapshots: providers.Open})
	}
	return p.until(ctx, w)
}

// copyMemory is what the copy role may take while no copy has reserved more.
const copyMemory = 32 << 20

// until runs a worker until ctx ends.
func (p *process) until(ctx context.Context, w worker.Worker) error {
	if err := w.Start(); err != nil {
		return fault.Wrap(fault.Unreachable, "start worker", p.role, err)
	}
	p.log.Info("ready")
	<-ctx.Done()
	p.log.Info("stopping")
	w.Stop()
	return nil
}

// serveKeeper runs the three workers of a keeper. On SIGTERM it takes no new
// sessions, serves those that it holds until they end or the drain timeout is
// over, and reports the rest as lost before it leaves.
func (p *process) serveKeeper(ctx context.Context, c client.Client) error {
	name := "holdfast-keeper-" + uuid.NewString()
	state := p.global.HoldfastStateDirectory
	registry, err := keeper.New(state, name+"-hold", name+"-call", uuid.NewString)
	if err != nil {
		return err
	}
	k := &activities.Keeper{Servers: p.servers(), Sessions: registry, StateDir: state, HoldQueue: name + "-hold", CallQueue: name + "-call",
		Open: openBracket, Exclusive: connectExclusive, Running: running(c),
		Lock: func(ctx context.Context, s *config.Server) (keeper.Lock, error) {
			return catalog.LayoutOf(s).AwaitBackup(ctx)
		}}
	start := func(queue string, register func(worker.Worker)) (worker.Worker, error) {
		o := p.workerOptions()
		o.DisableWorkflowWorker = true
		o.Interceptors = interceptors(p.role)
		w := worker.New(c, queue, o)
		register(w)
		return w, fault.Wrap(fault.Unreachable, "start worker", queue, w.Start())
	}
	hold, err := start(k.HoldQueue, func(w worker.Worker) { registerHold(w, k) })
	if err != nil {
		return err
	}
	defer hold.Stop()
	call, err := start(k.CallQueue, func(w worker.Worker) { registerCalls(w, k) })
	if err != nil {
		return err
	}
	defer call.Stop()
	shared, err := start(activities.KeeperQueue, func(w worker.Worker) { registerShared(w, k) })
	if err != nil {
		return err
	}
	expiring, stopExpiring := context.WithCancel(context.Background())
	defer stopExpiring()
	go p.expire(expiring, c, registry)
	p.log.Info("ready")
	<-ctx.Done()
	shared.Stop()
	p.drainSessions(registry)
	return nil
}

// drainSessions waits for the sessions to end; a second signal ends the wait.
func (p *process) drainSessions(registry *keeper.Registry) {
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	p.log.Info("stopping", "sessions", registry.Len(), "drain", p.drain)
	over := time.After(p.drain)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting && registry.Len() > 0; {
		select {
		case <-again:
			waiting = false
		case <-over:
			waiting = false
		case <-tick.C:
		}
	}
	if registry.Len() > 0 {
		registry.Close()
		// The holds report the loss before their worker stops.
		time.Sleep(time.Second)
	}
}

// expire ends sessions that nobody works for, as long as the engine answers.
func (p *process) expire(ctx context.Context, c client.Client, registry *keeper.Registry) {
	const every = 5 * time.Second
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asking, cancel := context.WithTimeout(ctx, every)
		_, err := c.CheckHealth(asking, nil)
		cancel()
		if err == nil {
			registry.Expire(every, p.global.HoldfastSessionLease, running(c))
		}
	}
}
