// Package rsync copies the files of a PostgreSQL cluster, which is in backup mode
// meanwhile, into a backup, with rsync processes that run in parallel, and makes
// a manifest of what arrived. The cluster is on this host, or on one that shell
// scripts can be run on.
//
// The source is listed by us, with the exclusions of rsync's own syntax (on
// another host find does it, by that host's clock); rsync gets lists of files, a
// batch each. What a batch brought is hashed while it is
// cached and recorded in a journal, so that whoever repeats the copy sends only
// what is not there already and provably the same. Files of the previous backup
// may be linked or copied instead of read. Nothing is ever written onto an
// existing file, because that may be linked to another backup.
//
// It knows nothing of PostgreSQL sessions: when a copy may begin and what
// becomes of the backup is decided elsewhere.
package rsync
