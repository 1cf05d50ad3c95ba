package main

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/report"
)

type keepOptions struct {
	target          string
	release, status bool
	from            from
}

func (a *app) cmdKeep() *cobra.Command {
	var o keepOptions
	cmd := &cobra.Command{
		Use: "keep SERVER BACKUP", Short: "Keep a backup whatever the retention policy says, or release it",
		Long: `Protects a backup from the retention policy and from "holdfast delete". With --target full
all later WAL is kept, too, so that the backup can be restored to any later time; with
--target standalone only the WAL that makes the backup consistent. Barman reads and
writes the same marks.
` + references + "\n" + fromHelp,
		Example:     "  holdfast keep main 20261123T023506 --target full\n  holdfast keep main oldest --status\n  holdfast keep main oldest --release",
		Args:        exactly("SERVER", "BACKUP"),
		Annotations: exitCodes("0 done", "2 wrong options", "3 no such server or backup", "4 the backup is incremental, not DONE, or being deleted"),
		RunE:        func(cmd *cobra.Command, args []string) error { return a.keep(cmd.Context(), args[0], args[1], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.target, "target", "", "`what` it is kept for: full or standalone")
	f.BoolVarP(&o.release, "release", "r", false, "leave it to the retention policy again")
	f.BoolVarP(&o.status, "status", "s", false, "say whether it is kept")
	a.fromFlags(cmd, &o.from)
	cmd.MarkFlagsMutuallyExclusive("target", "release", "status")
	cmd.MarkFlagsOneRequired("target", "release", "status")
	return cmd
}

func (a *app) keep(ctx context.Context, server, ref string, o keepOptions) error {
	target := catalog.KeepTarget(o.target)
	if !o.release && !o.status && target != catalog.KeepFull && target != catalog.KeepStandalone {
		return fault.New(fault.Usage, "read", "--target "+o.target, "the targets are full and standalone")
	}
	if o.from.given() {
		return a.keepFrom(ctx, server, ref, o)
	}
	s, err := a.server(server)
	if err != nil {
		return err
	}
	cat, err := bucket.Catalog(ctx, s, drivers.Open, &objstore.Policy{Patience: checkPatience})
	if err != nil {
		return err
	}
	info, err := cat.Resolve(ref)
	if err != nil {
		return err
	}
	if o.status {
		kept, err := cat.Keep(info.ID)
		if err != nil {
			return err
		}
		a.tellKept(s.Name, kept)
		return nil
	}
	// Whoever deletes it has the lock alone.
	lock, err := reading(cat, info.ID)
	if err != nil {
		return err
	}
	defer lock.Release()
	if o.release {
		if err := cat.Release(info.ID); err != nil {
			return err
		}
		a.say("Backup %s of server %s is left to the retention policy.", info.ID, s.Name)
		return nil
	}
	if err := cat.SetKeep(info.ID, target); err != nil {
		return err
	}
	a.say("Backup %s of server %s is kept (%s).", info.ID, s.Name, target)
	return nil
}

// tellKept says whether a backup is kept.
func (a *app) tellKept(server string, kept catalog.KeepTarget) {
	message := cmp.Or(string(kept), "nokeep")
	a.json[server] = report.Object{"keep_status": report.Object{"description": "Keep", "message": message}}
	a.print("Server %s:\n\tKeep: %s", server, message)
}
