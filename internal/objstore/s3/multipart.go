package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Begin implements objstore.Multipart. After a lost answer an upload may be left
// that nobody uses; Uploads lists it.
func (s *Store) Begin(ctx context.Context, key string) (objstore.Upload, error) {
	return s.begin(ctx, key, false)
}

// BeginCopy implements objstore.RangeCopier. The upload has no checksum of ours:
// versitygw 1.8 takes that of a whole object for that of a range copied from it.
// Amazon adds one of its own; of what is sent the SHA-256 is signed.
func (s *Store) BeginCopy(ctx context.Context, key string) (objstore.Upload, error) {
	return s.begin(ctx, key, true)
}

func (s *Store) begin(ctx context.Context, key string, copies bool) (objstore.Upload, error) {
	u := objstore.Upload{Key: key, Copies: copies}
	if err := objstore.CheckKey(key); err != nil {
		return u, err
	}
	in := &s3.CreateMultipartUploadInput{Bucket: s.bucket(), Key: s.key(key), Tagging: s.tagging}
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = s.own.headers()
	if !copies {
		in.ChecksumAlgorithm, in.ChecksumType = types.ChecksumAlgorithmCrc32c, types.ChecksumTypeFullObject
	}
	in.ServerSideEncryption, in.SSEKMSKeyId = s.encryption()
	err := s.do(ctx, "put", key, func(ctx context.Context, _ bool) error {
		out, err := s.client.CreateMultipartUpload(ctx, in)
		if err == nil {
			u.ID = aws.ToString(out.UploadId)
		}
		return err
	})
	return u, err
}

// PutPart implements objstore.Multipart.
func (s *Store) PutPart(ctx context.Context, u objstore.Upload, number int, data []byte) (objstore.Part, error) {
	p := objstore.Part{Number: number, Size: int64(len(data))}
	in := &s3.UploadPartInput{Bucket: s.bucket(), Key: s.key(u.Key), UploadId: aws.String(u.ID),
		PartNumber: aws.Int32(int32(number)), ContentLength: aws.Int64(p.Size)}
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = s.own.headers()
	how := s.unsigned
	if u.Copies {
		how = signed
	} else {
		p.CRC32C = aws.Uint32(crc32.Checksum(data, objstore.Castagnoli))
		in.ChecksumCRC32C = encode(p.CRC32C)
	}
	err := s.do(ctx, "put", u.Key, func(ctx context.Context, _ bool) error {
		in.Body = bytes.NewReader(data)
		out, err := s.client.UploadPart(ctx, in, how...)
		if err == nil {
			p.ETag = aws.ToString(out.ETag)
		}
		return err
	})
	return p, err
}

// CopyPart implements objstore.RangeCopier.
func (s *Store) CopyPart(ctx context.Context, u objstore.Upload, number int, from string, r objstore.Range) (objstore.Part, error) {
	p := objstore.Part{Number: number, Size: r.Length}
	if r.Length <= 0 || r.Offset < 0 {
		return p, fault.New(fault.Usage, "copy", from, "a range of %d bytes at %d cannot be copied", r.Length, r.Offset)
	}
	in := &s3.UploadPartCopyInput{Bucket: s.bucket(), Key: s.key(u.Key), UploadId: aws.String(u.ID),
		PartNumber: aws.Int32(int32(number)), CopySource: s.source(from), CopySourceRange: aws.String(objstore.ByteRange(r.Offset, r.Offset+r.Length))}
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = s.own.headers()
	in.CopySourceSSECustomerAlgorithm, in.CopySourceSSECustomerKey, in.CopySourceSSECustomerKeyMD5 = s.own.headers()
	err := s.do(ctx, "copy", from, func(ctx context.Context, _ bool) error {
		out, err := s.client.UploadPartCopy(ctx, in)
		if err == nil && out.CopyPartResult != nil {
			p.ETag = aws.ToString(out.CopyPartResult.ETag)
		}
		return err
	})
	return p, err
}

// Joins implements objstore.Joiner.
func (s *Store) Joins() bool { return !s.options.AWSCheckObjectLock }

// source names an object for a copy.
func (s *Store) source(key string) *string {
	name := s.at.Bucket + "/"
	if strings.HasPrefix(s.at.Bucket, "arn:") {
		name += "object/"
	}
	parts := strings.Split(s.at.Key(key), "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return aws.String(strings.ReplaceAll(name+strings.Join(parts, "/"), "+", "%2B"))
}

// signed is for bodies that nothing but their signature protects beyond the end of TLS.
var signed = []func(*s3.Options){s3.WithAPIOptions(func(stack *middleware.Stack) error {
	sum := &v4.ComputePayloadSHA256{}
	_, err := stack.Finalize.Swap(sum.ID(), sum)
	return err
})}

// Complete implements objstore.Multipart.
func (s *Store) Complete(ctx context.Context, u objstore.Upload, parts []objstore.Part, o objstore.PutOptions) (objstore.Object, error) {
	parts = slices.SortedFunc(slices.Values(parts), func(a, b objstore.Part) int { return a.Number - b.Number })
	in := &s3.CompleteMultipartUploadInput{Bucket: s.bucket(), Key: s.key(u.Key), UploadId: aws.String(u.ID),
		IfNoneMatch: ifAbsent(o), MultipartUpload: &types.CompletedMultipartUpload{}}
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = s.own.headers()
	if o.CRC32C != nil && !u.Copies {
		in.ChecksumCRC32C, in.ChecksumType = encode(o.CRC32C), types.ChecksumTypeFullObject
	}
	for _, p := range parts {
		in.MultipartUpload.Parts = append(in.MultipartUpload.Parts, types.CompletedPart{PartNumber: aws.Int32(int32(p.Number)),
			ETag: aws.String(p.ETag), ChecksumCRC32C: encode(p.CRC32C)})
	}
	object := objstore.Object{Key: u.Key, Size: objstore.Size(parts), CRC32C: o.CRC32C}
	err := s.do(ctx, "put", u.Key, func(ctx context.Context, again bool) error {
		out, err := s.client.CompleteMultipartUpload(ctx, in)
		if err != nil {
			return objstore.OwnAfterAll(ctx, &object, again, s.explain("put", u.Key, err), s.stat)
		}
		object.ETag, object.CRC32C = aws.ToString(out.ETag), whole(out.ChecksumCRC32C, out.ChecksumType)
		return nil
	})
	return object, err
}

// Abort implements objstore.Multipart.
func (s *Store) Abort(ctx context.Context, u objstore.Upload) error {
	err := s.do(ctx, "abort", u.Key, func(ctx context.Context, _ bool) error {
		_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: s.bucket(), Key: s.key(u.Key), UploadId: aws.String(u.ID)})
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// Uploads implements objstore.Multipart.
func (s *Store) Uploads(ctx context.Context, prefix string) iter.Seq2[objstore.Upload, error] {
	return func(yield func(objstore.Upload, error) bool) {
		in := &s3.ListMultipartUploadsInput{Bucket: s.bucket(), Prefix: s.prefix(prefix)}
		for out, err := range pages(ctx, s, "list uploads of", func(ctx context.Context) (*s3.ListMultipartUploadsOutput, error) {
			return s.client.ListMultipartUploads(ctx, in)
		}) {
			if err != nil {
				yield(objstore.Upload{}, err)
				return
			}
			for _, u := range out.Uploads {
				if !yield(objstore.Upload{Key: s.ours(u.Key), ID: aws.ToString(u.UploadId), Begun: aws.ToTime(u.Initiated)}, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
		}
	}
}

// copyAtOnce is what S3 copies in one request, copyPiece what longer objects are cut into.
const (
	copyAtOnce = 5 << 30
	copyPiece  = 1 << 30
)

// Copy implements objstore.Copier.
func (s *Store) Copy(ctx context.Context, from, to string) (objstore.Object, error) {
	if err := objstore.CheckKey(to); err != nil {
		return objstore.Object{}, err
	}
	o, err := s.Stat(ctx, from)
	if err != nil {
		return objstore.Object{}, err
	}
	if o.Size > copyAtOnce {
		return objstore.CopyParts(ctx, s, o, to, copyPiece)
	}
	in := &s3.CopyObjectInput{Bucket: s.bucket(), Key: s.key(to), CopySource: s.source(from), CopySourceIfMatch: aws.String(o.ETag)}
	if s.tagging != nil {
		in.Tagging, in.TaggingDirective = s.tagging, types.TaggingDirectiveReplace
	}
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = s.own.headers()
	in.CopySourceSSECustomerAlgorithm, in.CopySourceSSECustomerKey, in.CopySourceSSECustomerKeyMD5 = s.own.headers()
	in.ServerSideEncryption, in.SSEKMSKeyId = s.encryption()
	err = s.do(ctx, "copy", from, func(ctx context.Context, _ bool) error {
		_, err := s.client.CopyObject(ctx, in)
		return err
	})
	if fault.Is(err, fault.Conflict) {
		err = fault.New(fault.Conflict, "copy", from, "it was replaced while it was copied").WithHint("copy it again")
	}
	if err != nil {
		return objstore.Object{}, err
	}
	return s.Stat(ctx, to)
}

// LockOf implements objstore.Locker.
func (s *Store) LockOf(ctx context.Context, key string) (l objstore.Lock, err error) {
	err = s.policy.Do(ctx, func(ctx context.Context, _ bool) error {
		out, err := s.head(ctx, "read the lock of", key)
		if err == nil {
			l = objstore.Lock{Mode: string(out.ObjectLockMode), Until: aws.ToTime(out.ObjectLockRetainUntilDate), Hold: out.ObjectLockLegalHoldStatus == types.ObjectLockLegalHoldStatusOn}
		}
		return err
	})
	return l, err
}

// NewLocks implements objstore.Locker.
func (s *Store) NewLocks(ctx context.Context) (what string, err error) {
	err = s.do(ctx, "read the locks of", s.at.Bucket, func(ctx context.Context, _ bool) error {
		out, err := s.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: s.bucket()})
		var api smithy.APIError
		if errors.As(err, &api) && slices.Contains([]string{"ObjectLockConfigurationNotFoundError", "NotImplemented", "MethodNotAllowed"}, api.ErrorCode()) {
			return nil
		}
		if err != nil || out.ObjectLockConfiguration == nil || out.ObjectLockConfiguration.Rule == nil || out.ObjectLockConfiguration.Rule.DefaultRetention == nil {
			return err
		}
		d := out.ObjectLockConfiguration.Rule.DefaultRetention
		n, unit := aws.ToInt32(d.Days), "days"
		if n == 0 {
			n, unit = aws.ToInt32(d.Years), "years"
		}
		what = fmt.Sprintf("%s for %d %s", d.Mode, n, unit)
		return nil
	})
	return what, err
}
