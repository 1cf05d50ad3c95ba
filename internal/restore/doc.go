// Package restore turns a backup of the catalogue into a PostgreSQL data
// directory, following a plan of package restoreplan.
//
// The destination is complete or absent: it is built in a sibling and renamed.
// Where that is impossible (a mount point, a parent that is not ours) it is
// built in place, with a marker that makes an unfinished restore recognisable,
// and with global/pg_control, without which no server starts, placed last.
// An incremental backup is combined there with those that it builds on, by
// pg_combinebackup, and the result compared with its manifest.
// A backup that is a set of disk snapshots is read where they show their files,
// which become clones where the file system can clone.
// What is brought out of an object store is noted, and a restore that did not finish
// goes on with it when it is run again.
// It needs no Temporal and never talks to PostgreSQL.
package restore
