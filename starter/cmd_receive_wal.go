package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/walreceive"
)

type receiveOptions struct {
	stop, reset, create, drop bool
	ifExists, ifNotExists     bool
}

func (a *app) cmdReceiveWAL() *cobra.Command {
	var o receiveOptions
	cmd := &cobra.Command{
		Use: "receive-wal SERVER", Aliases: []string{"receive-xlog"}, Short: "Stream the WAL of a server, and steer the streaming",
		Long: `Streams the WAL of a server with pg_receivewal, until it is interrupted. Nobody has to:
with streaming_archiver = on, "holdfast up" keeps it running for ever, and "holdfast
cron" starts it. It needs no engine, and goes on when holdfast up ends or dies.

--stop ends it, whoever started it, and keeps it from being started again until
"holdfast cron" or this command is called. --reset begins anew at the server's present:
for a server that has removed WAL that was not received, or that went back in time.`,
		Example: "  holdfast receive-wal main\n  holdfast receive-wal --create-slot main\n  holdfast receive-wal --stop main && holdfast receive-wal --reset main && holdfast cron main",
		Args:    exactly("SERVER"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.receiveWAL(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.stop, "stop", false, "end the streaming, and keep it from being started again")
	f.BoolVar(&o.reset, "reset", false, "let the next streaming begin at the segment that the server writes now")
	f.BoolVar(&o.create, "create-slot", false, "create the replication slot slot_name")
	f.BoolVar(&o.drop, "drop-slot", false, "drop the replication slot slot_name")
	f.BoolVar(&o.ifNotExists, "if-not-exists", false, "with --create-slot: a slot that exists is no error")
	f.BoolVar(&o.ifExists, "if-exists", false, "with --drop-slot: a slot that does not exist is no error")
	cmd.MarkFlagsMutuallyExclusive("stop", "reset", "create-slot", "drop-slot")
	return cmd
}

func (a *app) receiveWAL(ctx context.Context, server string, o receiveOptions) error {
	if o.ifNotExists && !o.create || o.ifExists && !o.drop {
		return fault.New(fault.Usage, "read", "the options", "--if-not-exists goes with --create-slot, --if-exists with --drop-slot")
	}
	s, err := a.server(server)
	if err != nil {
		return err
	}
	r := walreceive.Of(s, a.cfg.Global.HoldfastStateDirectory)
	switch {
	case o.stop:
		return a.stopReceiver(ctx, s, r)
	case o.reset:
		return a.resetReceiver(ctx, s, r)
	case o.create:
		return a.onSlot(ctx, s, slotWork{"Creating", "created", (*pg.Streaming).CreateSlot, fault.Conflict, o.ifNotExists, "already exists"})
	case o.drop:
		return a.onSlot(ctx, s, slotWork{"Dropping", "dropped", (*pg.Streaming).DropSlot, fault.NotFound, o.ifExists, "does not exist"})
	}
	if err := r.Permit(); err != nil {
		return err
	}
	if err := r.Start(ctx, ensureSlot); err != nil {
		return err
	}
	a.say("Starting receive-wal for server %s", s.Name)
	if err := r.Wait(ctx); err != nil || ctx.Err() == nil {
		return err
	}
	return r.Stop(context.WithoutCancel(ctx))
}

// streamingStatus is how the streaming of a server's WAL goes, in a line.
func streamingStatus(s *config.Server, state string) (string, error) {
	r := walreceive.Of(s, state)
	pid, running, err := r.Process()
	slot := "without a slot"
	if s.SlotName != "" {
		slot = "slot " + s.SlotName
	}
	switch {
	case err != nil:
		return "", err
	case running:
		return fmt.Sprintf("running, process %d, %s", pid, slot), nil
	case r.Forbidden():
		return "stopped (holdfast cron starts it)", nil
	}
	if why := r.Failure(); why != nil {
		return "not running: " + why.Error(), nil
	}
	return "not running (holdfast up or holdfast cron starts it)", nil
}

// startReceivers starts the streaming of WAL where it does not run, and
// reports whether that failed.
func (a *app) startReceivers(ctx context.Context, servers []*config.Server) (failed bool) {
	for _, s := range servers {
		if !s.Streams() {
			continue
		}
		started, err := a.startReceiver(ctx, s)
		switch {
		case err != nil:
			failed = true
			a.warnOf(err)
		case started:
			a.say("Server %s: WAL is streamed now.", s.Name)
		}
	}
	return failed
}

// settles is how long a receiver that cannot work takes to find out.
const settles = time.Second

func (a *app) startReceiver(ctx context.Context, s *config.Server) (started bool, err error) {
	r := walreceive.Of(s, a.cfg.Global.HoldfastStateDirectory)
	if err := r.Permit(); err != nil {
		return false, err
	}
	if _, running, err := r.Process(); err != nil || running {
		return false, err
	}
	err = r.Start(ctx, ensureSlot)
	if fault.Is(err, fault.Refused) {
		return false, nil // somebody else has begun meanwhile
	}
	if err != nil {
		return false, err
	}
	settling, cancel := context.WithTimeout(ctx, settles)
	defer cancel()
	return true, r.Wait(settling)
}

// ensureSlot makes the replication slot of a server's settings unless it exists.
func ensureSlot(ctx context.Context, s *config.Server) error {
	ctx, cancel := context.WithTimeout(ctx, max(s.CheckTimeout, 5*time.Second))
	defer cancel()
	sql, streaming := s.WALSource()
	return pg.EnsureSlot(ctx, sql.Reveal(), streaming.Reveal(), s.SlotName)
}

func (a *app) stopReceiver(ctx context.Context, s *config.Server, r *walreceive.Receiver) error {
	if err := r.Forbid(); err != nil {
		return err
	}
	_, running, err := r.Process()
	if err != nil {
		return err
	}
	if !running {
		a.say("WAL of server %s was not being received.", s.Name)
		return nil
	}
	if err := r.Stop(ctx); err != nil {
		return err
	}
	a.say("Stopped receive-wal of server %s; holdfast cron %s starts it again.", s.Name, s.Name)
	return nil
}

func (a *app) resetReceiver(ctx context.Context, s *config.Server, r *walreceive.Receiver) error {
	c, err := streamingOf(ctx, s)
	if err != nil {
		return err
	}
	defer c.Close()
	sys, err := c.Identify(ctx)
	if err != nil {
		return err
	}
	segment, err := r.Reset(ctx, sys)
	if fault.Is(err, fault.Refused) {
		return &fault.Error{Op: "reset receive-wal of", Subject: s.Name, Kind: fault.Refused, Err: err, Hint: "holdfast receive-wal --stop " + s.Name + " first"}
	}
	if err != nil {
		return err
	}
	a.say("Streaming of server %s begins at %s the next time.", s.Name, segment)
	return nil
}

func streamingOf(ctx context.Context, s *config.Server) (*pg.Streaming, error) {
	_, streaming := s.WALSource()
	return pg.ConnectStreaming(ctx, streaming.Reveal())
}

// slotOf is the slot of a server that must have one.
func slotOf(s *config.Server) (string, error) {
	if s.SlotName == "" {
		return "", fault.New(fault.Config, "find the replication slot of", s.Name, "slot_name is not set").
			WithHint("set slot_name in section [%s]", s.Name)
	}
	return s.SlotName, nil
}

// slotWork is something that is done with the slot of a server.
type slotWork struct {
	doing, done string
	do          func(*pg.Streaming, context.Context, string) error
	fine        fault.Kind // an error that may be as good, if tolerant
	tolerant    bool
	already     string // what to say of it
}

func (a *app) onSlot(ctx context.Context, s *config.Server, w slotWork) error {
	slot, err := slotOf(s)
	if err != nil {
		return err
	}
	c, err := streamingOf(ctx, s)
	if err != nil {
		return err
	}
	defer c.Close()
	a.say("%s physical replication slot '%s' on server '%s'", w.doing, slot, s.Name)
	err = w.do(c, ctx, slot)
	if w.tolerant && fault.Is(err, w.fine) {
		a.say("Replication slot '%s' %s", slot, w.already)
		return nil
	}
	if err == nil {
		a.say("Replication slot '%s' %s", slot, w.done)
	}
	return err
}
