// Package report turns what is known of backups into what the command line
// tells of them: Barman's JSON objects, and text for people.
//
// It is pure: callers read the catalogue and the WAL archive, and print. JSON
// objects are maps, so that their keys are always sorted.
package report
