// Package cloudcopy copies a cluster into an object store, as tar volumes beside each
// other, and goes on with what an interrupted copy has stored.
//
// Copy makes the volumes while PostgreSQL is in backup mode, in parallel and in any
// order. Each one has a record in the working directory before its object appears, so
// that whoever comes after a kill asks the store for what is recorded, and makes the
// rest. In a later attempt, with another session, a volume counts only when none of its
// files has changed. Finish adds the archives that hold directories, pg_control and the
// label, and stores the records: the next backup is made out of this one's segments.
// Prove compares the store with the records, and takes away what is in none.
//
// When backup mode begins and ends, and what backup.info says, is decided elsewhere.
package cloudcopy
