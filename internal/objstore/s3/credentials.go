package s3

import (
	"context"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// credentials are those of the library's default chain. The library reads its files once; here they
// are read again when the store says that what they held has expired.
type credentials struct {
	cache *aws.CredentialsCache
	load  []func(*awsconfig.LoadOptions) error
	now   atomic.Pointer[aws.CredentialsProvider]
	stale atomic.Bool
}

func newCredentials(first aws.CredentialsProvider, load []func(*awsconfig.LoadOptions) error) *credentials {
	c := &credentials{load: load}
	c.now.Store(&first)
	c.cache = aws.NewCredentialsCache(c)
	return c
}

// refused has the next request look for new ones.
func (c *credentials) refused() {
	if c != nil {
		c.stale.Store(true)
		c.cache.Invalidate()
	}
}

// Retrieve implements aws.CredentialsProvider. It says of credentials that cannot be had what they are for.
func (c *credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if c.stale.Swap(false) {
		// A file that is being replaced may be unreadable for a moment: what there was is refused again, and read again.
		if cfg, err := awsconfig.LoadDefaultConfig(ctx, c.load...); err == nil && cfg.Credentials != nil {
			c.now.Store(&cfg.Credentials)
		}
	}
	found, err := (*c.now.Load()).Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		err = fault.New(fault.Permission, "find", "credentials for S3", "%w", innermost(err)).
			WithHint("put them into ~/.aws/credentials of the user that runs holdfast, name a profile in aws_profile, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this host a role")
	}
	return found, err
}
