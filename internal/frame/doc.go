// Package frame stitches one compressed stream from segments of at most 4 MiB that
// are compressed alone, so that each can be made in parallel, found, read, and
// copied into another stream of its format, while every decoder reads the whole as
// usual.
//
// A stream is Head, the runs of the segments in any order, and Tail. Barman and many
// programs read only the first frame of a file; this is one frame. A run depends on its
// segment, the algorithm and the level, and can be put into any stream of the
// algorithm.
//
//   - zstd: blocks of libzstd that refer to nothing before them. CGO_ENABLED=0 builds
//     cannot write them, and can read them.
//   - gzip: deflate blocks from a fresh state up to a flush. The trailer's checksum is
//     joined from those of the segments.
//   - lz4: one independent block for each segment.
//   - snappy: chunks of the framing format, which are independent by definition.
//   - bzip2: none; its blocks do not end at bytes. What has no runs is written as one stream.
//
// It knows nothing of what the segments hold, nor where streams are stored, and has no
// checksums of its own: who keeps a run keeps one with it. Single files are package codec's.
package frame
