package pg

import (
	"context"

	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// Native is the bracket around a copy that begins and ends backup mode itself,
// as pg_basebackup does. It has no session that could be lost: it asks where the
// server's WAL is before and after the copy.
type Native struct{ conninfo string }

// OpenNative makes sure that the server answers.
func OpenNative(ctx context.Context, conninfo string) (*Native, error) {
	c, err := Connect(ctx, conninfo)
	if err != nil {
		return nil, err
	}
	c.Close()
	return &Native{conninfo}, nil
}

// Start reads the server's facts and position; label and fast are the copy's business.
func (n *Native) Start(ctx context.Context, _ string, _ bool) (postgres.Start, error) {
	c, err := Connect(ctx, n.conninfo)
	if err != nil {
		return postgres.Start{}, err
	}
	defer c.Close()
	f, err := c.Facts(ctx)
	if err != nil {
		return postgres.Start{}, err
	}
	st := postgres.Start{LSN: f.CurrentLSN, Timeline: f.Timeline, Facts: f}
	return st, queryError("read the server's clock", c.c.QueryRow(ctx, "select now()").Scan(&st.At))
}

// Stop reads the server's position after the copy.
func (n *Native) Stop(ctx context.Context) (postgres.Stop, error) {
	c, err := Connect(ctx, n.conninfo)
	if err != nil {
		return postgres.Stop{}, err
	}
	defer c.Close()
	var st postgres.Stop
	err = c.c.QueryRow(ctx, `select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text,
		(`+currentTimeline+`), now()`).Scan(&st.LSN, &st.Timeline, &st.At)
	return st, queryError("read the server's WAL position", err)
}

// Check and Ping have no session to look after.
func (n *Native) Check(context.Context) error { return nil }

// Ping does nothing; see Check.
func (n *Native) Ping(context.Context) error { return nil }

// Close has nothing to close.
func (n *Native) Close() {}
