// Command holdfast-worker runs the steps of backups. Each role is a process of
// its own: workflow (workflow tasks and light activities), copy (heavy copying)
// and keeper (backup sessions of PostgreSQL). Without --role it supervises one
// process of each.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/logging"
	"github.com/holdfast-pg/holdfast/internal/osuser"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == command.ShimArg {
		os.Exit(command.Shim(os.Args[2:]))
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "holdfast-worker:", err)
		if hint := fault.HintOf(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint:", hint)
		}
		os.Exit(fault.KindOf(err).ExitCode())
	}
}

// options are those of the command line, and of a test's environment.
type options struct {
	configFile string
	role       string
	logLevel   string
	drain      time.Duration
	heartbeat  time.Duration
}

// heartbeat is the time after which a silent activity counts as dead. It is longer than a keeper may need to
// reach an engine that is there again: the SDK and gRPC wait for up to ten seconds each before they try again.
const heartbeat = 30 * time.Second

// heartbeatEnv shortens it; tests set it.
const heartbeatEnv = "HOLDFAST_HEARTBEAT_TIMEOUT"

func run(args []string) error {
	o := options{heartbeat: heartbeat}
	fs := flag.NewFlagSet("holdfast-worker", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.configFile, "c", "", "")
	fs.StringVar(&o.configFile, "config", "", "")
	fs.StringVar(&o.role, "role", "", "")
	fs.StringVar(&o.logLevel, "log-level", "", "")
	fs.DurationVar(&o.drain, "drain-timeout", 0, "")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Print(usage)
			return nil
		}
		return fault.New(fault.Usage, "read", "the command line", "%w", err).WithHint("holdfast-worker --help lists the options")
	}
	if fs.NArg() > 0 {
		return fault.New(fault.Usage, "read", fs.Arg(0), "no argument is expected").WithHint("holdfast-worker --help lists the options")
	}
	if v := os.Getenv(heartbeatEnv); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < 2*time.Second {
			return fault.New(fault.Usage, "read", heartbeatEnv+"="+v, "it is no duration of at least 2s")
		}
		o.heartbeat = d
	}
	path, err := config.Find(o.configFile)
	if err != nil {
		return err
	}
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	if err := osuser.Become(cfg.Global.BarmanUser); err != nil {
		return err
	}
	if o.logLevel == "" {
		o.logLevel = cfg.Global.LogLevel
	}
	log, err := logging.Open(os.Stderr, cfg.Global.LogFile, o.logLevel)
	if err != nil {
		return err
	}
	log = log.With("role", o.role, "pid", os.Getpid())
	slog.SetDefault(log)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := &process{options: o, path: path, global: cfg.Global, log: log}
	switch o.role {
	case "":
		return p.supervise(ctx)
	case "workflow", "copy", "keeper":
		return p.serve(ctx)
	}
	return fault.New(fault.Usage, "read", "--role "+o.role, "there is no such role").WithHint("the roles are workflow, copy and keeper; without --role one process of each is run")
}

const usage = `Usage: holdfast-worker [-c FILE] [--role workflow|copy|keeper] [--drain-timeout D] [--log-level L]

Runs the steps of backups. Without --role it runs and supervises one process of
each role. The Temporal server is the one that TEMPORAL_ADDRESS (or a Temporal
profile) names, else the one that "holdfast up" started.

  -c, --config FILE    configuration (default: as holdfast finds it)
  --role ROLE          run one role in this process
  --drain-timeout D    on SIGTERM, how long a keeper serves the sessions that it
                       holds before it gives them up; their backups then go on
                       with new sessions (default 0s)
  --log-level LEVEL    DEBUG, INFO, WARNING or ERROR (default: log_level)
`
