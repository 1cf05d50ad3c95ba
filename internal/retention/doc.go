// Package retention decides which backups and which WAL may go, and says why.
//
// It is pure: package disposal reads the catalogue and the archive for it, and
// carries out what it decides. Its words for backups are Barman's. When in
// doubt it keeps.
package retention
