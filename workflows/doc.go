// Package workflows has one file per workflow. A workflow decides nothing that
// could be computed elsewhere: it orders activities, races them, and says in the
// Temporal UI what happens. It does no I/O.
package workflows
