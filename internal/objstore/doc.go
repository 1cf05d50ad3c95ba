// Package objstore is what Holdfast asks of an object store: whole objects under
// keys, put, read, listed and deleted, and the abilities that only some stores have.
//
// The drivers, s3 and file, are imported by the mains alone. What they
// share is here: URLs, the meaning of errors, trying again, one bandwidth limit,
// counters, uploads of streams of unknown length, and reads that go on after an
// interruption and are verified. It knows nothing of backups and their names.
package objstore
