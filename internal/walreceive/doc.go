// Package walreceive runs pg_receivewal, one for each server whose WAL is
// streamed.
//
// It runs detached, so that it outlives whoever started it. Barman's
// receive-wal lock, which pg_receivewal inherits, says that one runs: neither
// we nor Barman start a second one, and whoever comes next finds it. Tender
// keeps them running as the configuration wants them.
//
// It archives nothing of what arrives, which is package walarchive's, and
// speaks to no server itself: mains bring the driver.
package walreceive
