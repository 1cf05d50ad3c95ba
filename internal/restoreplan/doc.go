// Package restoreplan decides how a backup becomes a PostgreSQL data
// directory again: which WAL is needed, where tablespaces go, which recovery
// settings are written, and whether the target can be reached at all.
//
// It is pure: it reads no file and writes none. Package restore carries a
// plan out.
package restoreplan
