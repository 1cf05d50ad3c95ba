package s3

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/holdfast-pg/holdfast/internal/awslogin"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Store is a prefix of a bucket.
type Store struct {
	client   *s3.Client
	at       objstore.Location
	policy   *objstore.Policy
	options  config.CloudOptions
	endpoint string // for messages; "" is Amazon's
	region   string
	creds    *awslogin.Credentials // nil for a store that needs none
	own      customerKey
	tagging  *string             // of new objects, nil for none
	unsigned []func(*s3.Options) // for bodies: TLS and the checksum protect them
}

var (
	_ objstore.Store  = (*Store)(nil)
	_ objstore.Levels = (*Store)(nil)
	_ objstore.Parts  = (*Store)(nil)
	_ objstore.Copier = (*Store)(nil)
	_ objstore.Joiner = (*Store)(nil)
	_ objstore.Locker = (*Store)(nil)
)

// fallbackRegion is Amazon's own default, and means nothing to other servers.
const fallbackRegion = "us-east-1"

// Open prepares a store; it asks it for nothing. Credentials come from the
// library's default chain, and are fetched anew when they expire.
func Open(ctx context.Context, at objstore.Location, o config.CloudOptions, p *objstore.Policy) (*Store, error) {
	own, err := readCustomerKey(o.AWSSSECustomerKey.Reveal())
	if err != nil {
		return nil, err
	}
	cfg, roots, creds, err := awslogin.Load(ctx, "S3", o.AWSProfile, o.AWSRegion)
	if err != nil {
		return nil, err
	}
	cfg.HTTPClient = p.Client(roots, o.AWSReadTimeout)
	if cfg.Region == "" {
		cfg.Region = fallbackRegion
	}
	s := &Store{at: at, policy: p, options: o, region: cfg.Region, own: own, creds: creds, tagging: tagging(o.HoldfastTags)}
	if o.HoldfastEndpointURL != "" {
		if err := objstore.CheckEndpoint(o.HoldfastEndpointURL); err != nil {
			return nil, err
		}
		cfg.BaseEndpoint = aws.String(o.HoldfastEndpointURL)
	}
	s.client = s3.NewFromConfig(cfg, func(c *s3.Options) {
		s.endpoint = aws.ToString(c.BaseEndpoint)
		style := o.HoldfastS3AddressingStyle
		c.UsePathStyle = !strings.HasPrefix(at.Bucket, "arn:") && (style == "path" || style != "virtual" && s.endpoint != "")
		c.UseARNRegion = true
		c.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		c.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		c.DisableLogOutputChecksumValidationSkipped = true
	})
	switch plain := strings.HasPrefix(s.endpoint, "http://"); {
	case plain && own.key != nil:
		return nil, fault.New(fault.Config, "open", at.String(), "aws_sse_customer_key would pass through the network for all to read").
			WithHint("use an https:// endpoint, or remove the option")
	case !plain:
		s.unsigned = []func(*s3.Options){s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)}
	}
	return s, nil
}

func (s *Store) bucket() *string { return aws.String(s.at.Bucket) }

func (s *Store) key(key string) *string { return aws.String(s.at.Key(key)) }

// ours is the key below the location of a name in the bucket.
func (s *Store) ours(name *string) string {
	if s.at.Prefix == "" {
		return aws.ToString(name)
	}
	return strings.TrimPrefix(aws.ToString(name), s.at.Prefix+"/")
}
