// Package walship brings WAL files to an archive on another host, and fetches
// them from there, as Barman does: through ssh, as a tar stream with a list of
// checksums. So Barman's barman-wal-archive can deliver to us, and we to
// Barman's put-wal.
//
// It knows the stream and the call of ssh. What becomes of a file that has
// arrived is package walarchive's.
package walship
