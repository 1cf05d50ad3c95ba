package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/supervise"
	"github.com/holdfast-pg/holdfast/workflows/engine"
)

type upOptions struct {
	stateDir     string
	port, uiPort int
}

func (a *app) cmdUp() *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use: "up [--state-dir DIR] [--port N] [--ui-port N]", Short: "Run the engine and the workers on this machine",
		Long: `Runs the embedded Temporal engine with its web UI, and the workers that take
backups, until SIGINT or SIGTERM. Backups that run then go on at the next start.
With TEMPORAL_ADDRESS set, only the workers are run.`,
		Example: "  holdfast up\n  holdfast -c barman.conf up --port 7300 --ui-port 8300",
		Args:    exactly(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.up(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.stateDir, "state-dir", "", "`directory` of the engine's database (default: holdfast_state_directory)")
	f.IntVar(&o.port, "port", 7233, "`port` of the engine on 127.0.0.1")
	f.IntVar(&o.uiPort, "ui-port", 8233, "`port` of the web UI on 127.0.0.1; 0 for no UI")
	return cmd
}

func (a *app) up(ctx context.Context, o upOptions) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if o.stateDir == "" {
		o.stateDir = cfg.Global.HoldfastStateDirectory
	}
	if err := os.MkdirAll(o.stateDir, 0o700); err != nil {
		return fault.Wrap(fault.Internal, "create directory", o.stateDir, err)
	}
	u := &ensemble{app: a, failed: make(chan error, 2)}
	defer u.stop()
	if os.Getenv("TEMPORAL_ADDRESS") == "" {
		if err := a.startEngine(ctx, u, cfg, o); err != nil {
			return err
		}
	}
	worker, err := command.Sibling("holdfast-worker")
	if err != nil {
		return err
	}
	u.run("workers", worker, "--config", cfg.Path)
	a.say("The workers are running. Stop everything with Ctrl-C; running backups go on at the next start.")
	keeping, stopKeeping := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		a.keepSchedules(keeping, cfg)
	}()
	defer func() { stopKeeping(); <-kept }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-u.failed:
		return err
	}
}

// startEngine starts the embedded engine and waits until it answers.
func (a *app) startEngine(ctx context.Context, u *ensemble, cfg *config.Config, o upOptions) error {
	program, err := command.Sibling("holdfast-engine")
	if err != nil {
		return err
	}
	before, err := engine.Running(o.stateDir)
	if err != nil {
		return err
	}
	u.run("engine", program, "--state-dir", o.stateDir, "--port", strconv.Itoa(o.port), "--ui-port", strconv.Itoa(o.uiPort), "--namespace", engine.Namespace)
	for deadline := time.Now().Add(engineStart); ; {
		e, err := engine.Running(o.stateDir)
		if err == nil && e != nil && (before == nil || e.PID != before.PID) {
			return a.publish(cfg, o, e)
		}
		select {
		case err := <-u.failed:
			return err
		case <-ctx.Done():
			return fault.New(fault.Cancelled, "start", "the engine", "it was interrupted")
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fault.New(fault.Unreachable, "start", "the engine", "it is not ready after %s", engineStart)
		}
	}
}

// engineStart is how long the engine may take until it answers.
const engineStart = time.Minute

// publish tells where the UI is, and lets commands find an engine whose state
// directory is not the configured one.
func (a *app) publish(cfg *config.Config, o upOptions, e *engine.Embedded) error {
	if e.UI != "" {
		a.say("Temporal UI: %s", e.UI)
	}
	if filepath.Clean(o.stateDir) == filepath.Clean(cfg.Global.HoldfastStateDirectory) {
		return nil
	}
	return engine.Announce(cfg.Global.HoldfastStateDirectory, *e)
}

// ensemble is the processes of "up".
type ensemble struct {
	app    *app
	failed chan error
	stops  []func()
}

// partStops is how long a part may take to end by itself.
const partStops = 40 * time.Second

// run starts a part and keeps it running; when its first start fails, the
// whole does.
func (u *ensemble) run(name, program string, args ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	u.stops = append(u.stops, func() { cancel(); <-ended })
	child := supervise.Child{Path: program, Args: args, StopWithin: partStops, FailFast: true,
		Ended: func(err error, _ time.Duration) { u.app.warn("the %s ended (%v) and is started again", name, err) }}
	go func() {
		defer close(ended)
		if err := child.Keep(ctx); err != nil {
			u.failed <- fault.New(fault.Refused, "run", "the "+name, "it ended at once: %w", err).
				WithHint("mend what its message above complains of, and start again")
		}
	}()
}

// stop ends the parts, last started first.
func (u *ensemble) stop() {
	for _, stop := range slices.Backward(u.stops) {
		stop()
	}
}
