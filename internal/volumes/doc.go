// Package volumes cuts a PostgreSQL cluster's files into tar archives of bounded
// size, volumes, and streams each of them as segments.
//
// List says what belongs to the backup, Cut packs it, as near as it can to how the
// previous backup was packed, and a Reader makes a volume's segments: at most 4
// MiB of a tar stream each, cut so that what has not changed gives the same
// segments, whatever its neighbours did. A Member says what was read, well enough
// to tell later whether it is still the same; what is need not be read again.
//
// It compresses nothing and knows no store, no PostgreSQL session and no backup:
// when it may read, and what becomes of the segments, is decided elsewhere. It does
// not unpack.
package volumes
