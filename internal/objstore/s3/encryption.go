package s3

import (
	"crypto/md5"
	"encoding/base64"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/holdfast-pg/holdfast/internal/awslogin"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// encryption is what new objects are encrypted with by S3.
func (s *Store) encryption() (kind types.ServerSideEncryption, key *string) {
	if s.options.AWSSSEKMSKeyID != "" {
		key = aws.String(s.options.AWSSSEKMSKeyID)
	}
	return types.ServerSideEncryption(s.options.AWSEncryption), key
}

// customerKey is a key of the user's own, which each request for an object has to bring (SSE-C). The zero
// value is none.
type customerKey struct{ algorithm, key, sum *string }

// headers are those of a request, in the order of the library's fields.
func (k customerKey) headers() (algorithm, key, sum *string) { return k.algorithm, k.key, k.sum }

const keySize = 32

// readCustomerKey reads the file of a file:// URI.
func readCustomerKey(uri string) (customerKey, error) {
	if uri == "" {
		return customerKey{}, nil
	}
	const hint = "name a file that holds 32 random bytes in base64, readable by the user that runs holdfast, as in file:///etc/holdfast/sse.key"
	refuse := func(format string, args ...any) (customerKey, error) {
		return customerKey{}, fault.New(fault.Config, "read", "the file of aws_sse_customer_key", format, args...).WithHint(hint)
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "file" || u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) {
		return refuse("it is not file:// and an absolute path")
	}
	text, err := os.ReadFile(u.Path)
	if err != nil {
		return refuse("%w", awslogin.Innermost(err))
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(raw) != keySize {
		return refuse("it does not hold %d bytes in base64", keySize)
	}
	sum := md5.Sum(raw)
	return customerKey{aws.String("AES256"), aws.String(base64.StdEncoding.EncodeToString(raw)), aws.String(base64.StdEncoding.EncodeToString(sum[:]))}, nil
}

// tagging is how requests have tags.
func tagging(tags config.Tags) *string {
	if len(tags) == 0 {
		return nil
	}
	q := url.Values{}
	for name, value := range tags {
		q.Set(name, value)
	}
	return aws.String(q.Encode())
}
