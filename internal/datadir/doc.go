// Package datadir knows which files below a data directory and the locations of
// tablespaces belong to a backup, walks through those of this host, and tells
// whether a file is the same, unchanged, as when it was read.
//
// It is the one list of exclusions: copies by rsync and volumes in object stores
// consist of the same files. It reads no content and writes nothing.
package datadir
