// Package window decides what a server can be restored to: for each timeline,
// from the end of which backup to the end of which segment its WAL has no hole;
// which segments the holes are; and which backups miss WAL of their own.
//
// It is pure: callers stream the archived names in. Its memory grows with the
// breaks in the order of the names, not with their number. Which backup serves
// a certain target is the business of package restoreplan.
package window
