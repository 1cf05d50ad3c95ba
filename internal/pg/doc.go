// Package pg talks to PostgreSQL: it reads what a backup must know about a
// server, holds backup sessions, and switches WAL.
//
// It is a driver: only the mains import it, and it knows nothing of workflows
// or of the catalogue. Function names and result shapes are those of
// PostgreSQL 13 to 18 (manual, "Backup Control Functions"). Passwords never
// leave this package in an error or a command line.
package pg
