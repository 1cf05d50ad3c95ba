// Package walarchive stores PostgreSQL's WAL where Barman stores it, and finds
// it again.
//
// Two things say what is archived: the files, and xlog.db, a line for each.
// A file becomes durable before its line is written, and a line goes before
// its file is removed; so what xlog.db lists exists, and a kill between the two
// is repaired by the next try or by Rebuild. It decides nothing about what may
// be deleted, which is package retention's, and needs neither PostgreSQL nor
// Temporal.
package walarchive
