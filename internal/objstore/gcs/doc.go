// Package gcs is the driver for Google Cloud Storage. It speaks the JSON API itself, with the
// vendor's library for credentials: the client library links three times as much as all of it.
//
// Uploads in parts are objects of their own below .holdfast-store, composed when they are
// complete: the parts of the XML API know no preconditions. Ranges are not copied. Only
// mains import it.
package gcs
