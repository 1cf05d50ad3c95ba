package s3

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, o objstore.PutOptions) (objstore.Object, error) {
	return objstore.PutStream(ctx, s.policy, s, key, r, o)
}

// PutBytes implements objstore.Parts.
func (s *Store) PutBytes(ctx context.Context, key string, data []byte, o objstore.PutOptions) (objstore.Object, error) {
	if err := objstore.CheckKey(key); err != nil {
		return objstore.Object{}, err
	}
	crc := o.CRC32C
	if crc == nil {
		crc = aws.Uint32(crc32.Checksum(data, objstore.Castagnoli))
	}
	in := &s3.PutObjectInput{Bucket: s.bucket(), Key: s.key(key), ContentLength: aws.Int64(int64(len(data))),
		ChecksumCRC32C: encode(crc), IfNoneMatch: ifAbsent(o), Tagging: s.tagging}
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = s.own.headers()
	in.ServerSideEncryption, in.SSEKMSKeyId = s.encryption()
	object := objstore.Object{Key: key, Size: int64(len(data)), CRC32C: crc}
	err := s.do(ctx, "put", key, func(ctx context.Context, again bool) error {
		in.Body = bytes.NewReader(data)
		out, err := s.client.PutObject(ctx, in, s.unsigned...)
		if err != nil {
			return objstore.OwnAfterAll(ctx, &object, again, s.explain("put", key, err), s.stat)
		}
		object.ETag = aws.ToString(out.ETag)
		return nil
	})
	return object, err
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, r objstore.Range) (io.ReadCloser, objstore.Object, error) {
	return objstore.Read(ctx, s.policy, s, key, r, func(ctx context.Context, from, to int64, etag string) (io.ReadCloser, objstore.Object, error) {
		in := &s3.GetObjectInput{Bucket: s.bucket(), Key: s.key(key), ChecksumMode: types.ChecksumModeEnabled}
		in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = s.own.headers()
		if from > 0 || to >= 0 {
			in.Range = aws.String(objstore.ByteRange(from, to))
		}
		if etag != "" {
			in.IfMatch = aws.String(etag)
		}
		out, err := s.client.GetObject(ctx, in)
		if err != nil {
			err = s.explain("read", key, err)
			if fault.Is(err, fault.Conflict) {
				err = fault.New(fault.Conflict, "read", key, "it was replaced while it was read").WithHint("read it again")
			}
			return nil, objstore.Object{}, err
		}
		size, err := objstore.RangeTotal(key, aws.ToString(out.ContentRange), aws.ToInt64(out.ContentLength))
		if err != nil {
			out.Body.Close()
			return nil, objstore.Object{}, err
		}
		o := objstore.Object{Key: key, Size: size, ETag: aws.ToString(out.ETag),
			Modified: aws.ToTime(out.LastModified), CRC32C: whole(out.ChecksumCRC32C, out.ChecksumType), Other: other(out)}
		return out.Body, o, nil
	})
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (o objstore.Object, err error) {
	if err := objstore.CheckKey(key); err != nil {
		return o, err
	}
	err = s.policy.Do(ctx, func(ctx context.Context, _ bool) (err error) {
		o, err = s.stat(ctx, key)
		return err
	})
	return o, err
}

func (s *Store) stat(ctx context.Context, key string) (objstore.Object, error) {
	out, err := s.head(ctx, "stat", key)
	if err != nil {
		return objstore.Object{}, err
	}
	return objstore.Object{Key: key, Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag),
		Modified: aws.ToTime(out.LastModified), CRC32C: whole(out.ChecksumCRC32C, out.ChecksumType)}, nil
}

func (s *Store) head(ctx context.Context, op, key string) (*s3.HeadObjectOutput, error) {
	in := &s3.HeadObjectInput{Bucket: s.bucket(), Key: s.key(key), ChecksumMode: types.ChecksumModeEnabled}
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = s.own.headers()
	out, err := s.client.HeadObject(ctx, in)
	return out, s.explain(op, key, err)
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[objstore.Object, error] {
	return s.list(ctx, prefix, nil)
}

// ListLevel implements objstore.Levels.
func (s *Store) ListLevel(ctx context.Context, prefix string) iter.Seq2[objstore.Object, error] {
	return s.list(ctx, prefix, aws.String("/"))
}

func (s *Store) list(ctx context.Context, prefix string, delimiter *string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: s.bucket(), Prefix: s.prefix(prefix), Delimiter: delimiter}
		for out, err := range pages(ctx, s, "list", func(ctx context.Context) (*s3.ListObjectsV2Output, error) { return s.client.ListObjectsV2(ctx, in) }) {
			if err != nil {
				yield(objstore.Object{}, err)
				return
			}
			for _, o := range s.page(out) {
				if !yield(o, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			in.ContinuationToken = out.NextContinuationToken
		}
	}
}

// pages are the answers to a question that is asked on and on, until whoever ranges over them stops, or an error.
func pages[Page any](ctx context.Context, s *Store, op string, ask func(ctx context.Context) (*Page, error)) iter.Seq2[*Page, error] {
	return func(yield func(*Page, error) bool) {
		for {
			var out *Page
			err := s.do(ctx, op, s.at.String(), func(ctx context.Context, _ bool) (err error) {
				out, err = ask(ctx)
				return err
			})
			if !yield(out, err) || err != nil {
				return
			}
		}
	}
}

// page is what one answer lists, in the order of the keys.
func (s *Store) page(out *s3.ListObjectsV2Output) []objstore.Object {
	all := make([]objstore.Object, 0, len(out.Contents)+len(out.CommonPrefixes))
	for _, c := range out.Contents {
		all = append(all, objstore.Object{Key: s.ours(c.Key), Size: aws.ToInt64(c.Size), ETag: aws.ToString(c.ETag), Modified: aws.ToTime(c.LastModified)})
	}
	if len(out.CommonPrefixes) == 0 {
		return all
	}
	for _, p := range out.CommonPrefixes {
		all = append(all, objstore.Object{Key: s.ours(p.Prefix)})
	}
	slices.SortFunc(all, func(a, b objstore.Object) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// prefix is what names in the bucket begin with.
func (s *Store) prefix(prefix string) *string {
	if s.at.Prefix != "" {
		prefix = s.at.Prefix + "/" + prefix
	}
	return aws.String(prefix)
}

// deleteBatch is what S3 deletes in one request.
const deleteBatch = 1000

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := objstore.CheckKey(key); err != nil {
			return err
		}
		if s.options.AWSCheckObjectLock {
			if err := s.refuseLocked(ctx, key); err != nil {
				return err
			}
		}
	}
	batch := deleteBatch
	if n := s.options.CloudDeleteBatchSize; n != nil {
		batch = min(batch, *n)
	}
	for len(keys) > 0 {
		n := min(batch, len(keys))
		if err := s.deleteSome(ctx, keys[:n]); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

func (s *Store) deleteSome(ctx context.Context, keys []string) error {
	if len(keys) == 1 {
		return s.deleteOne(ctx, keys[0])
	}
	in := &s3.DeleteObjectsInput{Bucket: s.bucket(), Delete: &types.Delete{Quiet: aws.Bool(true)}}
	for _, key := range keys {
		in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: s.key(key)})
	}
	unknown := false
	err := s.do(ctx, "delete", s.at.String(), func(ctx context.Context, _ bool) error {
		out, err := s.client.DeleteObjects(ctx, in)
		if unknown = isUnknown(err); unknown {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range out.Errors {
			if code := aws.ToString(e.Code); code != "NoSuchKey" {
				return s.explain("delete", s.ours(e.Key), &smithy.GenericAPIError{Code: code, Message: aws.ToString(e.Message)})
			}
		}
		return nil
	})
	for _, key := range keys {
		if !unknown || err != nil {
			break
		}
		err = s.deleteOne(ctx, key)
	}
	return err
}

func (s *Store) deleteOne(ctx context.Context, key string) error {
	err := s.do(ctx, "delete", key, func(ctx context.Context, _ bool) error {
		_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: s.bucket(), Key: s.key(key)})
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// isUnknown reports whether a server knows no deletion of many, or none with our checksum.
func isUnknown(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode() {
	case "NotImplemented", "MissingContentMD5", "MethodNotAllowed":
		return true
	}
	return false
}

// do is a request that is tried again.
func (s *Store) do(ctx context.Context, op, key string, request func(ctx context.Context, again bool) error) error {
	return s.policy.Do(ctx, func(ctx context.Context, again bool) error { return s.explain(op, key, request(ctx, again)) })
}

func ifAbsent(o objstore.PutOptions) *string {
	if o.IfAbsent {
		return aws.String("*")
	}
	return nil
}

// encode is a checksum as S3 writes it.
func encode(crc *uint32) *string {
	if crc == nil {
		return nil
	}
	return aws.String(objstore.EncodeCRC32C(*crc))
}

// whole is a checksum of all of an object; one of the checksums of its parts is none.
func whole(text *string, kind types.ChecksumType) *uint32 {
	if kind == types.ChecksumTypeComposite || strings.Contains(aws.ToString(text), "-") {
		return nil
	}
	return objstore.DecodeCRC32C(aws.ToString(text))
}

// nvme is CRC-64/NVME, which S3 computes of what comes without a checksum.
var nvme = crc64.MakeTable(0x9a6c9329ac4bc9b5)

// other is a checksum of all of an object that is no CRC32C.
func other(out *s3.GetObjectOutput) *objstore.Sum {
	if out.ChecksumType == types.ChecksumTypeComposite {
		return nil
	}
	for _, c := range []struct {
		text *string
		new  func() hash.Hash
	}{
		{out.ChecksumCRC64NVME, func() hash.Hash { return crc64.New(nvme) }},
		{out.ChecksumCRC32, func() hash.Hash { return crc32.NewIEEE() }},
		{out.ChecksumSHA256, sha256.New},
		{out.ChecksumSHA1, sha1.New},
	} {
		// That of many parts has their number behind it, and is no base64.
		if value, err := base64.StdEncoding.DecodeString(aws.ToString(c.text)); err == nil && len(value) == c.new().Size() {
			return &objstore.Sum{New: c.new, Value: value}
		}
	}
	return nil
}

// refuseLocked fails for what cannot be deleted.
func (s *Store) refuseLocked(ctx context.Context, key string) error {
	lock, err := s.LockOf(ctx, key)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil || !lock.Locked(time.Now()) {
		return err
	}
	until := "until somebody lifts its legal hold"
	if !lock.Hold {
		until = "in mode " + lock.Mode + " until " + lock.Until.UTC().Format(time.RFC3339)
	}
	return fault.New(fault.Refused, "delete", key, "it is locked %s", until).WithHint("wait until then")
}
