// Package bucket is the catalogue of one server in an object store, where Barman
// keeps it: backups below URL/SERVER/base, WAL below URL/SERVER/wals. Barman's cloud
// tools, a Barman server that backs up to a cloud, and we write the same layout.
//
// The objects are the truth; nothing is kept beside them, and nobody but the
// store is asked. It is not the catalogue in directories, which is package catalog,
// and it takes no backups. There are no locks between machines: what could be
// being made right now is not deleted.
package bucket
