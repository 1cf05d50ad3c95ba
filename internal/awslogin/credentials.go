package awslogin

import (
	"context"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Credentials are those of the library's default chain. The library reads its files once; here they
// are read again when a service says that what they held has expired. A nil one has none.
type Credentials struct {
	service string
	cache   *aws.CredentialsCache
	load    []func(*awsconfig.LoadOptions) error
	now     atomic.Pointer[aws.CredentialsProvider]
	stale   atomic.Bool
}

func newCredentials(service string, first aws.CredentialsProvider, load []func(*awsconfig.LoadOptions) error) *Credentials {
	c := &Credentials{service: service, load: load}
	c.now.Store(&first)
	c.cache = aws.NewCredentialsCache(c)
	return c
}

// Refused is what a service says of credentials, by the code of its error; nil when it is
// about something else. Of those that have expired the next request looks for new ones.
func (c *Credentials) Refused(op, subject, code string) *fault.Error {
	switch code {
	case "InvalidAccessKeyId", "XAdminUserNotFound", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity", "AuthFailure", "InvalidClientTokenId":
		return fault.New(fault.Permission, op, subject, "the service refuses the credentials (%s)", code).
			WithHint("correct the access key and its secret: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or aws_profile and ~/.aws/credentials")
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired":
		if c != nil {
			c.stale.Store(true)
			c.cache.Invalidate()
		}
		return fault.New(fault.Permission, op, subject, "%w (%s)", objstore.ErrExpired, code).
			WithHint("log in again, so that there are new ones in ~/.aws/credentials, which is read anew; or let them come from a source that renews them, such as a role of this host")
	}
	return nil
}

// Retrieve implements aws.CredentialsProvider. It says of credentials that cannot be had what they are for.
func (c *Credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if c.stale.Swap(false) {
		// A file that is being replaced may be unreadable for a moment: what there was is refused again, and read again.
		if cfg, err := awsconfig.LoadDefaultConfig(ctx, c.load...); err == nil && cfg.Credentials != nil {
			c.now.Store(&cfg.Credentials)
		}
	}
	found, err := (*c.now.Load()).Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		err = fault.New(fault.Permission, "find", "credentials for "+c.service, "%w", Innermost(err)).
			WithHint("put them into ~/.aws/credentials of the user that runs holdfast, name a profile in aws_profile, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this host a role")
	}
	return found, err
}
