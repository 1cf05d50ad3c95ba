package check

import (
	"fmt"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/report"
)

func (f Facts) archive(l *list) {
	waiting := false
	for _, b := range f.Store.Backups {
		waiting = waiting || b.Status == backup.WaitingForWALs
	}
	how := "set archive_command"
	if f.Settings.Streaming {
		how = "see that receive-wal runs"
	}
	l.failing("WAL archive", !f.Store.Listed && !waiting, "no WAL was archived yet: "+how+" and run holdfast switch-wal --force --archive")
	l.adviseFailing("empty incoming directory", !f.Settings.Archiver && f.Store.Incoming > 0, "archiver is off, but "+plural(f.Store.Incoming, "file")+" wait")
	l.adviseFailing("empty streaming directory", !f.Settings.Streaming && f.Store.InStreaming > 0, "streaming_archiver is off, but "+plural(f.Store.InStreaming, "file")+" wait")
	if most := f.Settings.MaxQueue; most != nil {
		l.adviseFailing("incoming WALs directory", f.Store.Incoming > *most, fmt.Sprintf("%s wait, more than %d", plural(f.Store.Incoming, "file"), *most))
		l.adviseFailing("streaming WALs directory", f.Store.InStreaming > *most, fmt.Sprintf("%s wait, more than %d", plural(f.Store.InStreaming, "file"), *most))
	}
}

// holes tells of WAL that is missing, and of backups that wait for theirs
// longer than it takes to arrive.
func (f Facts) holes(l *list) {
	var broken, waiting []string
	for _, x := range f.Store.Lacking {
		if x.Status != backup.WaitingForWALs {
			broken = append(broken, report.Lacking(x))
		}
	}
	for _, b := range f.Store.Backups {
		if b.Status != backup.WaitingForWALs || b.EndTime == nil || f.Now.Sub(*b.EndTime) <= f.Settings.WALWait {
			continue
		}
		text := string(b.ID)
		for _, x := range f.Store.Lacking {
			if x.ID == b.ID {
				text = report.Lacking(x)
			}
		}
		waiting = append(waiting, text)
	}
	if len(f.Store.Gaps) > 0 {
		l.advise("WAL gaps", false, "missing "+report.Spans(f.Store.Gaps)+
			": nothing behind them can be restored from an earlier backup; archive them, if the server still has them in pg_wal, else take a backup")
	}
	l.adviseFailing("backups that cannot be restored", len(broken) > 0, report.Some(broken, "; "))
	l.adviseFailing("backups waiting for WAL", len(waiting) > 0, report.Some(waiting, "; ")+"; see archive_command and PostgreSQL's log, then holdfast cron")
}

// slotTrouble is what is wrong with the slot; "" for nothing.
func (f Facts) slotTrouble() string {
	name, slot := f.Settings.Slot, f.Postgres.Slot
	switch {
	case f.Postgres.SlotErr != nil:
		return reason(f.Postgres.SlotErr)
	case slot == nil:
		return "there is no slot " + name + ": holdfast receive-wal --create-slot SERVER, or set create_slot = auto"
	case !slot.Physical:
		return "slot " + name + " is a logical one: give WAL streaming a slot of its own"
	case slot.WALStatus == "lost":
		return "the server has removed WAL that slot " + name + " should have kept (max_slot_wal_keep_size): holdfast receive-wal --drop-slot, --create-slot and --reset, then take a backup"
	case slot.RestartLSN == "":
		return "slot " + name + " was never used: does receive-wal run?"
	case !slot.Active:
		return "nobody streams from slot " + name + ", and the server keeps its WAL: does receive-wal run?"
	}
	return ""
}

func (f Facts) archiving(l *list) {
	s := f.Postgres.Facts
	if p := f.Postgres.Primary; s.InRecovery && s.ArchiveMode == "on" && p != nil && p.Err == nil {
		s = p.Facts // it archives for its standby
	}
	on := s.ArchiveMode == "on" && !s.InRecovery || s.ArchiveMode == "always"
	hint := ""
	switch {
	case !on && s.InRecovery:
		hint = "the server is a standby: set archive_mode = always and restart it, or let its primary archive here and name that in primary_conninfo"
	case !on:
		hint = "set archive_mode = on and restart the server"
	}
	l.add("archive_mode", on, hint)
	set := s.ArchiveCommand != "" && s.ArchiveCommand != "(disabled)"
	hint = ""
	if !set {
		hint = "set archive_command = 'holdfast wal-archive SERVER %p'"
	}
	l.add("archive_command", set, hint)
	if !on || !set {
		return
	}
	a := f.Postgres.Archiver
	hint = ""
	if a.Failing() {
		hint = fmt.Sprintf("archive_command failed with %s at %s; PostgreSQL's log says why", a.LastFailed, a.FailedAt.UTC().Format(time.RFC3339))
	}
	l.add("continuous archiving", !a.Failing(), hint)
}

// receiving has the items of WAL streaming, under the names that Barman has
// kept from the program's former name.
func (f Facts) receiving(l *list) {
	l.add("pg_receivexlog", f.Local.ReceiveErr == nil, reason(f.Local.ReceiveErr))
	l.add("pg_receivexlog compatible", f.receiverTrouble() == "", f.receiverTrouble())
	hint := ""
	switch {
	case f.Store.Receiving:
	case f.Store.Stopped:
		hint = "it was stopped with receive-wal --stop: holdfast cron starts it"
	case f.Local.Received != nil:
		hint = reason(f.Local.Received)
	default:
		hint = "holdfast cron starts it, holdfast up keeps it running"
	}
	l.add("receive-wal running", f.Store.Receiving, hint)
}

// receiverTrouble compares pg_receivewal with the server that it streams from.
func (f Facts) receiverTrouble() string {
	server := postgres.Major(f.Postgres.Facts.Version)
	switch {
	case f.Local.ReceiveErr != nil:
		return "pg_receivewal does not say its version"
	case f.Postgres.Err != nil || f.Postgres.Streaming != nil:
		return fmt.Sprintf("PostgreSQL version: unknown, pg_receivewal version: %d; the server does not answer, see above", f.Local.ReceiveMajor)
	case f.Local.ReceiveMajor < server:
		return fmt.Sprintf("PostgreSQL version: %d, pg_receivewal version: %d; install postgresql-client-%d and let path_prefix name its directory", server, f.Local.ReceiveMajor, server)
	}
	return ""
}
