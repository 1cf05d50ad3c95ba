package check

import (
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

func (f Facts) server(l *list) {
	p := f.Postgres
	err := p.Err
	if err == nil {
		err = postgres.CheckVersion(p.Facts.Version)
	}
	l.add("PostgreSQL", err == nil, reason(err))
	if err != nil {
		return
	}
	name := "superuser or standard user with backup privileges"
	if p.Privileges != nil {
		name = "no access to backup functions"
	}
	l.add(name, p.Privileges == nil, reason(p.Privileges))
	if f.Settings.Method == "postgres" || f.Settings.Streaming {
		l.add("PostgreSQL streaming", p.Streaming == nil, reason(p.Streaming))
	}
	walLevel(l, "wal_level", p.Facts.WALLevel)
	f.primary(l)
	if f.Settings.Streaming {
		f.walSource(l)
	}
}

func walLevel(l *list, item, level string) {
	hint := ""
	if level == "minimal" {
		hint = "it is minimal: set wal_level = replica and restart the server"
	}
	l.add(item, hint == "", hint)
}

// walSource has the items of where WAL is streamed from; they bear a suffix when
// that is configured apart.
func (f Facts) walSource(l *list) {
	w, suffix := f.Postgres.WAL, ""
	if w != nil {
		suffix = " (WAL streaming)"
		if w.Err != nil {
			l.add("PostgreSQL"+suffix, false, reason(w.Err))
			return
		}
		if w.Monitoring == nil {
			l.add("has monitoring privileges"+suffix, true, "")
		} else {
			l.add("no access to monitoring functions", false, reason(w.Monitoring))
		}
		l.add("PostgreSQL streaming"+suffix, w.Streaming == nil, reason(w.Streaming))
		walLevel(l, "wal_level"+suffix, w.WALLevel)
		f.walCoherence(l, "systemid coherence"+suffix)
	}
	if f.Settings.Slot != "" {
		trouble := f.slotTrouble()
		l.add("replication slot"+suffix, trouble == "", trouble)
	}
}

// walCoherence: WAL of another cluster is of no use to the backups.
func (f Facts) walCoherence(l *list, item string) {
	w, id := f.Postgres.WAL, f.Postgres.Facts.SystemID
	hint := ""
	switch {
	case w.StreamID != "" && w.StreamID != w.SystemID:
		hint = "wal_conninfo and wal_streaming_conninfo lead to different servers: " + w.SystemID + " and " + w.StreamID
	case w.SystemID != id:
		hint = "WAL is streamed from " + w.SystemID + ", backups are taken of " + id + ": let wal_conninfo and wal_streaming_conninfo name the same cluster as conninfo"
	}
	l.add(item, hint == "", hint)
}

// primary tells whether primary_conninfo names the primary of a standby. One
// that is down keeps no backup from being taken.
func (f Facts) primary(l *list) {
	p, standby := f.Postgres.Primary, f.Postgres.Facts
	if p == nil {
		return
	}
	hint := ""
	if !standby.InRecovery {
		hint = "primary_conninfo is set, but conninfo names a server that is not in recovery: remove primary_conninfo, or let conninfo name the standby"
	}
	l.advise("PostgreSQL server is standby", hint == "", hint)
	if p.Err != nil {
		l.advise("Primary server is not a standby", false, reason(p.Err))
		return
	}
	hint = ""
	if p.Facts.InRecovery {
		hint = "primary_conninfo names a standby: let it name the primary"
	}
	l.add("Primary server is not a standby", hint == "", hint)
	hint = ""
	if p.Facts.SystemID != standby.SystemID {
		hint = "the primary is " + p.Facts.SystemID + ", the standby " + standby.SystemID + ": let primary_conninfo name the primary of that standby"
	}
	l.add("Primary and standby have same system ID", hint == "", hint)
}

func (f Facts) coherence(l *list) {
	id := f.Postgres.Facts.SystemID
	switch {
	case f.Settings.Inactive || f.Postgres.Err != nil:
		l.add("systemid coherence", true, "no system Id available")
	case f.Postgres.StreamID != "" && f.Postgres.StreamID != id:
		l.add("systemid coherence", false, "conninfo and streaming_conninfo lead to different servers: "+id+" and "+f.Postgres.StreamID)
	case f.Store.Identity != "" && f.Store.Identity != id:
		l.add("systemid coherence", false, "the server is "+id+", the backups are of "+f.Store.Identity+"; give another cluster another name in the configuration")
	case f.Store.Identity == "":
		l.add("systemid coherence", true, "no system Id stored on disk")
	default:
		l.add("systemid coherence", true, "")
	}
}
