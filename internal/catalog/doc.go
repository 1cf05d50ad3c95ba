// Package catalog keeps the backups of one server in the directories where
// Barman keeps them: backup.info files, annotations, identity.json, and beside
// them what only we know of a backup.
//
// The files are the truth; nothing is cached. Every write is complete or
// absent. The WAL archive is package walarchive; the format of backup.info is
// package backupinfo.
package catalog
