package pg

import (
	"context"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// Archiver reads how archiving goes.
func (c *Conn) Archiver(ctx context.Context) (postgres.Archiver, error) {
	var a postgres.Archiver
	var lastAt, failedAt, since *time.Time
	err := c.c.QueryRow(ctx, `
		select case when pg_is_in_recovery() then '' else pg_walfile_name(pg_current_wal_lsn()) end,
		       archived_count, failed_count, coalesce(last_archived_wal, ''), last_archived_time,
		       coalesce(last_failed_wal, ''), last_failed_time, stats_reset
		from pg_stat_archiver`).Scan(&a.CurrentWAL, &a.Archived, &a.Failed, &a.LastWAL, &lastAt, &a.LastFailed, &failedAt, &since)
	if err != nil {
		return a, queryError("read the state of archiving", err)
	}
	for _, t := range []struct{ to, from *time.Time }{{&a.LastAt, lastAt}, {&a.FailedAt, failedAt}, {&a.Since, since}} {
		if t.from != nil {
			*t.to = *t.from
		}
	}
	return a, nil
}

// IdentifySystem asks for the system identifier over the replication protocol,
// and so finds out whether a copy over it can work.
func IdentifySystem(ctx context.Context, conninfo string) (string, error) {
	s, err := ConnectStreaming(ctx, conninfo)
	if err != nil {
		return "", err
	}
	defer s.Close()
	sys, err := s.Identify(ctx)
	return sys.ID, err
}

// replicationHint adds what replication connections need beside others.
func replicationHint(err error) error {
	text := err.Error()
	if strings.Contains(text, "42501") || strings.Contains(text, "28000") {
		return &fault.Error{Op: "open a replication connection", Kind: fault.Permission, Err: err,
			Hint: "as a superuser: ALTER ROLE <user of streaming_conninfo> REPLICATION; and let pg_hba.conf admit it to database replication"}
	}
	return err
}
