// Package check decides whether a server's backups and archiving are in order,
// item by item, under Barman's names.
//
// It is pure: it decides from facts that the caller has gathered, and nobody
// changes anything in order to gather them.
package check
