// Package s3 is the driver for Amazon S3 and servers that speak its protocol, with
// the vendor's Go library. That library's own retries are off: objstore.Policy
// decides what is tried again and for how long. Only mains import it.
package s3
