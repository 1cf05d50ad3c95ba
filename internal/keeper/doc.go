// Package keeper holds PostgreSQL backup sessions for longer than any single
// call that works with them.
//
// A session is filed under an epoch. Whoever knows the epoch can hold it (wait
// for its end), stop it or abort it, again and again and from several
// goroutines; the session itself belongs to the registry and ends only by a
// stop, an abort, a loss, or its lease. What must survive the process is in the
// state directory: a record of each session, so that a supervisor can report
// those of a dead keeper, and the result of each stop, which every keeper can
// look up. It knows neither PostgreSQL's protocol nor workflows.
package keeper
