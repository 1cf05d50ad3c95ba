// Package azure is the driver for Azure Blob Storage: block blobs. It speaks the REST API
// itself, with the vendor's library for tokens of Microsoft Entra ID.
//
// An upload in parts is blocks that no list names yet. Azure keeps them under the name of the blob,
// so of two uploads for one key the first that is complete discards the other one's blocks. The
// service knows no CRC32C: that of an object is kept in its metadata, and what is sent has
// its MD5, which the service compares. Only mains import it.
package azure
