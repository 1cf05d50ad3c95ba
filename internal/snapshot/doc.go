// Package snapshot makes backups that are snapshots of disks: it asks a provider
// for them, finds out which disks a cluster lies on, and says what a backup's
// record tells of them.
//
// A snapshot carries whose it is, of which backup and of which attempt, from the
// call that makes it. So whoever comes after a crash adopts those of its own
// attempt, makes the missing ones, and removes those of attempts whose session
// was lost. It holds no PostgreSQL session, and it knows no single provider.
package snapshot
