package check

import (
	"fmt"

	"github.com/holdfast-pg/holdfast/internal/postgres"
)

func (f Facts) copying(l *list) {
	switch f.Settings.Method {
	case "local-rsync":
		l.add("local PGDATA", f.Local.PGDataErr == nil, reason(f.Local.PGDataErr))
		l.failing("rsync", f.Local.RsyncErr != nil, reason(f.Local.RsyncErr))
		f.exclusive(l)
	case "local-to-cloud":
		l.add("local PGDATA", f.Local.PGDataErr == nil, reason(f.Local.PGDataErr))
		l.add("cloud storage configuration", f.Local.CloudErr == nil, reason(f.Local.CloudErr))
		for _, r := range f.Local.Replicas {
			l.add("replica "+r.URL, r.Err == nil, reason(r.Err))
		}
		if f.Local.Replicas != nil {
			l.advise("backups at every destination", f.Store.Behind == 0,
				fmt.Sprintf("%d complete backups are not; show-backup tells which destination lacks one, and why; they are copied there when it can be used", f.Store.Behind))
		}
	case "rsync":
		f.ssh(l)
		f.exclusive(l)
	case "snapshot":
		f.disks(l)
		f.exclusive(l)
		l.failing("cloud storage configuration", f.Local.CloudErr != nil, reason(f.Local.CloudErr))
	case "postgres":
		l.add("pg_basebackup", f.Local.BaseErr == nil, reason(f.Local.BaseErr))
		f.compatible(l)
		if f.Postgres.Err == nil {
			l.add("pg_basebackup supports tablespaces mapping", f.Local.BaseErr == nil, reason(f.Local.BaseErr))
		}
	}
}

func (f Facts) ssh(l *list) {
	s := f.Local.SSH
	hint := "PostgreSQL server"
	if s.LoginErr != nil {
		hint = reason(s.LoginErr)
	}
	l.add("ssh", s.LoginErr == nil, hint)
	l.failing("ssh output clean", s.NoiseErr != nil, reason(s.NoiseErr))
	l.failing("backup_label", s.Labelled, "PostgreSQL does not answer, and its data directory has a backup_label: unless it is being restored there, remove that file before it is started")
	l.failing("rsync", f.Local.RsyncErr != nil, reason(f.Local.RsyncErr))
	l.failing("rsync on the PostgreSQL host", s.HostErr != nil, reason(s.HostErr))
}

// disks are Barman's items. What PostgreSQL does not say is not looked for.
func (f Facts) disks(l *list) {
	d := f.Local.Disks
	if d.Far {
		f.ssh(l)
	}
	l.add("snapshot instance exists", d.InstanceErr == nil, reason(d.InstanceErr))
	if d.InstanceErr != nil {
		return
	}
	l.add("snapshot disks attached to instance", d.MissingErr == nil, reason(d.MissingErr))
	if d.MissingErr == nil && d.LayoutKnown {
		l.add("snapshot disks mounted on instance", d.LayoutErr == nil, reason(d.LayoutErr))
	}
}

// exclusive tells whether the server can be put into exclusive backup mode.
func (f Facts) exclusive(l *list) {
	if !f.Settings.Exclusive {
		return
	}
	s := f.Postgres.Facts
	known := f.Postgres.Err == nil
	l.add("not in recovery", known && !s.InRecovery, reason(postgres.CheckExclusive(0, s.InRecovery)))
	hint := "PostgreSQL does not say its version"
	if known {
		hint = reason(postgres.CheckExclusive(s.Version, false))
	}
	l.add("exclusive backup supported", known && s.Version < postgres.NoExclusive, hint)
}

// compatible compares pg_basebackup with the server that it would talk to.
func (f Facts) compatible(l *list) {
	server := postgres.Major(f.Postgres.Facts.Version)
	hint := ""
	switch {
	case f.Local.BaseErr != nil:
		hint = "pg_basebackup does not say its version"
	case f.Postgres.Err != nil || f.Postgres.Streaming != nil:
		hint = fmt.Sprintf("PostgreSQL version: unknown, pg_basebackup version: %d; the server does not answer, see above", f.Local.BaseMajor)
	case f.Local.BaseMajor < server:
		hint = fmt.Sprintf("PostgreSQL version: %d, pg_basebackup version: %d; install postgresql-client-%d and let path_prefix name its directory", server, f.Local.BaseMajor, server)
	}
	l.add("pg_basebackup compatible", hint == "", hint)
}
