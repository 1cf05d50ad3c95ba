package s3

import (
	"errors"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/holdfast-pg/holdfast/internal/awslogin"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// rights are what each operation needs.
var rights = map[string]string{
	"put": "s3:PutObject", "read": "s3:GetObject", "stat": "s3:GetObject and s3:ListBucket", "list": "s3:ListBucket",
	"delete": "s3:DeleteObject", "copy": "s3:GetObject and s3:PutObject", "abort": "s3:AbortMultipartUpload",
	"list uploads of": "s3:ListBucketMultipartUploads", "read the lock of": "s3:GetObjectRetention and s3:GetObjectLegalHold",
	"read the locks of": "s3:GetBucketObjectLockConfiguration",
}

// explain gives an error of the library its meaning.
func (s *Store) explain(op, key string, err error) error {
	var ours *fault.Error
	var api smithy.APIError
	var resp *awshttp.ResponseError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ours):
		return ours
	}
	status, code, said := 0, "", ""
	if errors.As(err, &resp) {
		status = resp.HTTPStatusCode()
	}
	if errors.As(err, &api) {
		code, said = api.ErrorCode(), api.ErrorMessage()
	}
	if status == 0 && code == "" {
		if !isTransport(err) {
			return fault.New(fault.Config, op, key, "%w", awslogin.Innermost(err)).WithHint("correct the URL of the store, aws_region, or holdfast_endpoint_url")
		}
		return objstore.Network(op, key, s.endpoint, err)
	}
	cause := code
	if said != "" && said != code {
		cause += ": " + said
	}
	if cause == "" {
		cause = http.StatusText(status)
	}
	if refused := s.creds.Refused(op, key, code); refused != nil {
		return refused
	}
	switch code {
	case "NoSuchBucket", "NoSuchAccessPoint":
		return objstore.NoBucket(op, s.at.Bucket)
	case "InvalidBucketName":
		return fault.New(fault.Config, op, s.at.Bucket, "the store says that no bucket can have this name").WithHint("correct the URL")
	case "NoSuchKey", "NoSuchUpload", "NotFound":
		return objstore.Absent(op, key)
	case "PreconditionFailed":
		return objstore.Taken(key)
	case "InvalidRange":
		return objstore.ErrRange
	case "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "ChecksumMismatch":
		return objstore.Mismatch(op, key)
	case "ConditionalRequestConflict", "OperationAborted":
		return fault.New(fault.Connection, op, key, "%s", cause).WithHint("another request for the same key was running; try again")
	case "RequestTimeTooSkewed":
		return fault.New(fault.Config, op, key, "the clock of this host differs from the store's by more than 15 minutes").
			WithHint("let a time service set the clock (timedatectl set-ntp true)")
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded":
		return objstore.Full(op, s.at.String(), cause)
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "MovedPermanently":
		return s.elsewhere(op, key, resp)
	}
	switch {
	case status == http.StatusMovedPermanently || status == http.StatusTemporaryRedirect:
		return s.elsewhere(op, key, resp)
	case status == http.StatusNotFound && code == "":
		return objstore.Absent(op, key)
	case status == http.StatusPreconditionFailed:
		return objstore.Taken(key)
	case status == http.StatusRequestedRangeNotSatisfiable:
		return objstore.ErrRange
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return fault.New(fault.Permission, op, key, "the store denies it (%s)", cause).
			WithHint("give the user or role %s on %s", rights[op], s.at)
	case status == http.StatusInsufficientStorage:
		return objstore.Full(op, s.at.String(), cause)
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500 && status != http.StatusNotImplemented,
		code == "SlowDown", code == "RequestTimeout", code == "Throttling", code == "RequestTimeoutException":
		return fault.New(fault.Connection, op, key, "the store is busy or failing (%d %s)", status, cause).
			WithHint("see the state of the store; Holdfast tries again by itself")
	}
	return fault.New(fault.Unavailable, op, key, "the store refuses the request (%d %s)", status, cause).
		WithHint("see whether %s is a store that speaks S3, and whether it supports this request", s.where())
}

// isTransport reports whether a request was sent or tried, so that the network decided.
func isTransport(err error) bool {
	var send *smithy.SerializationError
	var sign *smithy.CanceledError
	var sent interface{ ConnectionError() bool }
	return !errors.As(err, &send) && !errors.As(err, &sign) && errors.As(err, &sent)
}

func (s *Store) where() string {
	if s.endpoint != "" {
		return s.endpoint
	}
	return "the endpoint"
}

// elsewhere is a bucket that another region serves.
func (s *Store) elsewhere(op, key string, resp *awshttp.ResponseError) error {
	is := ""
	if resp != nil && resp.Response != nil {
		is = resp.Response.Header.Get("x-amz-bucket-region")
	}
	e := fault.New(fault.Config, op, key, "the bucket %s is not served by the region %s", s.at.Bucket, s.region)
	if is != "" {
		return e.WithHint("set aws_region = %s, or AWS_REGION=%s", is, is)
	}
	return e.WithHint("set aws_region, or AWS_REGION, to the region of the bucket")
}
