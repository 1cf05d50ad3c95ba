package pg

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// ApplicationName is what pg_stat_activity shows of our connections.
const ApplicationName = "holdfast"

// currentTimeline is the timeline that the server writes, or that a standby has replayed.
const currentTimeline = `select case when pg_is_in_recovery() and min_recovery_end_timeline > 0 then min_recovery_end_timeline
	else (select timeline_id from pg_control_checkpoint()) end from pg_control_recovery()`

// Conn is an ordinary connection for questions; backups have Session.
type Conn struct{ c *pgx.Conn }

// Connect opens a connection to the server that conninfo names.
func Connect(ctx context.Context, conninfo string) (*Conn, error) {
	c, err := connect(ctx, conninfo, ApplicationName, nil)
	if err != nil {
		return nil, err
	}
	return &Conn{c}, nil
}

// Close ends the connection.
func (c *Conn) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c.c.Close(ctx)
}

// Facts reads what a backup records about the server, except for its size.
func (c *Conn) Facts(ctx context.Context) (postgres.Facts, error) {
	return readFacts(ctx, c.c, unmeasured)
}

// MeasuredFacts reads the size of the cluster, too: the server looks at each of its files for that.
func (c *Conn) MeasuredFacts(ctx context.Context) (postgres.Facts, error) {
	return readFacts(ctx, c.c, "coalesce(pg_tablespace_size(oid), 0)")
}

// unmeasured is the size of a tablespace that nobody asks for.
const unmeasured = "0::bigint"

// readFacts takes what gives a tablespace's size.
func readFacts(ctx context.Context, c *pgx.Conn, measure string) (postgres.Facts, error) {
	var f postgres.Facts
	err := c.QueryRow(ctx, `
		select current_setting('server_version_num')::int, current_setting('server_version'),
		       (select system_identifier::text from pg_control_system()),
		       pg_is_in_recovery(),
		       (`+currentTimeline+`),
		       current_setting('data_directory'), pg_size_bytes(current_setting('wal_segment_size')),
		       current_setting('config_file'), current_setting('hba_file'), current_setting('ident_file'),
		       current_setting('data_checksums'), coalesce(current_setting('summarize_wal', true), ''),
		       current_setting('wal_level'), current_setting('archive_mode'), current_setting('archive_command'),
		       case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text,
		       pg_postmaster_start_time()`).Scan(
		&f.Version, &f.VersionText, &f.SystemID, &f.InRecovery, &f.Timeline, &f.DataDirectory, &f.SegmentSize,
		&f.ConfigFile, &f.HBAFile, &f.IdentFile, &f.DataChecksums, &f.SummarizeWAL,
		&f.WALLevel, &f.ArchiveMode, &f.ArchiveCommand, &f.CurrentLSN, &f.StartedAt)
	if err = queryError("read the server's settings", err); fault.Is(err, fault.Permission) {
		return f, missingGrants("read the server's settings", c.Config().User, "GRANT pg_read_all_settings, pg_read_all_stats TO "+ident(c.Config().User))
	}
	if err != nil {
		return f, err
	}
	if f.DataDirectory == "" || f.ConfigFile == "" {
		return f, missingGrants("read the server's settings", c.Config().User, "GRANT pg_read_all_settings TO "+ident(c.Config().User))
	}
	rows, err := c.Query(ctx, `select distinct sourcefile from pg_settings where sourcefile is not null and sourcefile <> current_setting('config_file') order by 1`)
	if err == nil {
		f.IncludedFiles, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return f, queryError("list included files", err)
	}
	rows, err = c.Query(ctx, `select spcname, oid, pg_tablespace_location(oid), `+measure+` from pg_tablespace order by oid`)
	if err != nil {
		return f, queryError("list tablespaces", err)
	}
	f.Tablespaces = []postgres.Tablespace{}
	var t postgres.Tablespace
	var size int64
	_, err = pgx.ForEachRow(rows, []any{&t.Name, &t.OID, &t.Location, &size}, func() error {
		f.ClusterSize += size
		if t.Location != "" {
			f.Tablespaces = append(f.Tablespaces, t)
		}
		return nil
	})
	if err != nil {
		return f, queryError("list tablespaces", err)
	}
	return f, nil
}

// WALSource reads what tells whether WAL can be streamed from the server, and of
// which cluster it is. Any user may.
func (c *Conn) WALSource(ctx context.Context) (walLevel, systemID string, err error) {
	err = c.c.QueryRow(ctx, `select current_setting('wal_level'), system_identifier::text from pg_control_system()`).Scan(&walLevel, &systemID)
	return walLevel, systemID, queryError("read the server's settings", err)
}

// CheckPrivileges verifies that a backup can be started, stopped and followed
// by a WAL switch; the error holds the exact statements that grant what is missing.
func (c *Conn) CheckPrivileges(ctx context.Context) error {
	user := c.c.Config().User
	var version int
	var super bool
	if err := c.c.QueryRow(ctx, `select current_setting('server_version_num')::int, (select rolsuper from pg_roles where rolname = current_user)`).Scan(&version, &super); err != nil {
		return queryError("check privileges", err)
	}
	if super {
		return nil
	}
	start, stop := "pg_backup_start(text, boolean)", "pg_backup_stop(boolean)"
	if version < 150000 {
		start, stop = "pg_start_backup(text, boolean, boolean)", "pg_stop_backup(boolean, boolean)"
	}
	var missing []string
	for _, fn := range []string{start, stop, "pg_switch_wal()", "pg_create_restore_point(text)"} {
		var ok bool
		if err := c.c.QueryRow(ctx, `select has_function_privilege(current_user, $1, 'execute')`, fn).Scan(&ok); err != nil {
			return queryError("check privileges", err)
		}
		if !ok {
			missing = append(missing, "GRANT EXECUTE ON FUNCTION "+fn+" TO "+ident(user))
		}
	}
	may, err := c.mayMonitor(ctx)
	if err != nil {
		return err
	}
	if !may {
		missing = append(missing, monitoring+ident(user))
	}
	if len(missing) > 0 {
		return missingGrants("start a backup", user, missing...)
	}
	return nil
}

// monitoring is the statement that lets a user read settings and statistics.
const monitoring = "GRANT pg_read_all_settings, pg_read_all_stats TO "

func (c *Conn) mayMonitor(ctx context.Context) (may bool, err error) {
	err = c.c.QueryRow(ctx, `select pg_has_role(current_user, 'pg_read_all_settings', 'usage') and pg_has_role(current_user, 'pg_read_all_stats', 'usage')`).Scan(&may)
	return may, queryError("check privileges", err)
}

// CheckMonitoring is nil when the user may read settings and statistics, as who
// watches WAL streaming must.
func (c *Conn) CheckMonitoring(ctx context.Context) error {
	may, err := c.mayMonitor(ctx)
	if err != nil || may {
		return err
	}
	user := c.c.Config().User
	return missingGrants("watch WAL streaming", user, monitoring+ident(user))
}

func missingGrants(op, user string, grants ...string) error {
	return fault.New(fault.Permission, op, "", "PostgreSQL user %s lacks privileges", user).
		WithHint("as a superuser, in database postgres: %s;", strings.Join(grants, "; "))
}

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

// SwitchWAL ends the current WAL segment and returns its name; force writes a
// checkpoint first, so that an idle server switches too.
func (c *Conn) SwitchWAL(ctx context.Context, force bool) (string, error) {
	if force {
		if _, err := c.c.Exec(ctx, "checkpoint"); err != nil {
			return "", queryError("checkpoint", err)
		}
	}
	return switchWAL(ctx, c.c)
}

// EndSegment makes sure that the server will archive a segment: when it still
// writes to it, the segment is ended. Only its primary can do that for a standby.
func (c *Conn) EndSegment(ctx context.Context, name string) (standby bool, err error) {
	if err := c.c.QueryRow(ctx, `select pg_is_in_recovery()`).Scan(&standby); err != nil || standby {
		return standby, queryError("find the current WAL segment", err)
	}
	var current bool
	if err := c.c.QueryRow(ctx, `select pg_walfile_name(pg_current_wal_insert_lsn()) = $1`, name).Scan(&current); err != nil || !current {
		return false, queryError("find the current WAL segment", err)
	}
	_, err = switchWAL(ctx, c.c)
	return false, err
}

// CreateRestorePoint names the server's present position in its WAL, for
// recovery_target_name. On a standby there is nothing to do.
func (c *Conn) CreateRestorePoint(ctx context.Context, name string) error {
	_, err := c.c.Exec(ctx, `select pg_create_restore_point($1) where not pg_is_in_recovery()`, name)
	return queryError("create a restore point", err)
}

func switchWAL(ctx context.Context, c *pgx.Conn) (string, error) {
	var name string
	if err := c.QueryRow(ctx, "select pg_walfile_name(pg_switch_wal())").Scan(&name); err != nil {
		return "", queryError("switch WAL", err)
	}
	return name, nil
}

// queryError gives a failed statement a kind and drops what the server says of
// the statement's text.
func queryError(op string, err error) error {
	if err == nil {
		return nil
	}
	var server *pgconn.PgError
	if errors.As(err, &server) {
		kind := fault.Internal
		switch {
		case server.Code == "42501":
			kind = fault.Permission
		case strings.HasPrefix(server.Code, "57P"), strings.HasPrefix(server.Code, "08"), server.Code == "53300":
			kind = fault.Connection
		case server.Code == "55000":
			kind = fault.Refused
		}
		return fault.New(kind, op, "", "PostgreSQL: %s (SQLSTATE %s)", server.Message, server.Code)
	}
	if errors.Is(err, context.Canceled) {
		return fault.Wrap(fault.Cancelled, op, "", err)
	}
	return fault.New(fault.Connection, op, "", "the connection to PostgreSQL failed: %w", err)
}
