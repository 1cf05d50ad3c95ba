package objstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// ErrRange is a range that begins behind an object's end; drivers give it to Read.
var ErrRange = errors.New("the range begins behind the end")

// Absent is a key that is not there.
func Absent(op, key string) error {
	return fault.New(fault.NotFound, op, key, "the store has no such object")
}

// Taken is a key that is there although it should not be.
func Taken(key string) error {
	return fault.New(fault.Conflict, "put", key, "the store has an object of that name already").
		WithHint("it was left as it is; compare it with what was to be stored")
}

// NoBucket is a bucket, container or directory that is not there.
func NoBucket(op, bucket string) error {
	return fault.New(fault.Config, op, bucket, "it does not exist").
		WithHint("create it, or correct the URL; Holdfast creates no buckets")
}

// Mismatch is content that is not what its checksum says.
func Mismatch(op, key string) error {
	return fault.New(fault.Corrupt, op, key, "its content does not match its checksum").
		WithHint("the network, a proxy, the store or this host's memory damages data: use https, see the store's log, and try again")
}

// Changed is an object that is not what was stored.
func Changed(key, how string) error {
	return fault.New(fault.Corrupt, "read", key, "it is not what was stored: %s", how).
		WithHint("it is damaged or was replaced; restore another backup, or another copy of this one")
}

// Full is a store that takes no more.
func Full(op, where, cause string) error {
	return fault.New(fault.Disk, op, where, "the store is full (%s)", cause).WithHint("make room in the store, or raise its quota, and take another backup")
}

// Network gives an error of a connection its meaning; endpoint is what was called.
func Network(op, key, endpoint string, err error) error {
	var (
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
	)
	at := "the store"
	if endpoint != "" {
		at = endpoint
	}
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fault.New(fault.Config, op, key, "there is no host %s", dns.Name).
			WithHint("correct holdfast_endpoint_url (or --endpoint-url, AWS_ENDPOINT_URL), the region, or the URL of the store")
	case errors.As(err, &authority), errors.As(err, &name), errors.As(err, &invalid):
		return fault.New(fault.Config, op, key, "the certificate of %s is not valid here: %w", at, rootCause(err)).
			WithHint("add the authority of its certificate to the system's, or name a file with it in AWS_CA_BUNDLE or SSL_CERT_FILE")
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return fault.New(fault.Config, op, key, "%s does not speak TLS", at).
			WithHint("correct holdfast_endpoint_url: http:// instead of https://, or another port")
	}
	return fault.New(fault.Connection, op, key, "%w", rootCause(err)).
		WithHint("see that %s can be reached from this host, and that its port is right", at)
}

// rootCause leaves the words of intermediate layers, which say nothing new.
func rootCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	if errors.Is(err, errQuiet) {
		return errQuiet
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
