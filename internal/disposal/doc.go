// Package disposal carries out what package retention decides: it deletes
// backups and WAL of one server, so that a kill at any moment leaves each
// backup whole or listed as FAILED, and the rest of the work to be finished.
//
// It decides nothing itself, and knows neither PostgreSQL nor Temporal. Package
// catalog knows the steps of a deletion, package walarchive those of a purge.
package disposal
