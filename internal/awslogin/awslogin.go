// Package awslogin reads the AWS configuration of the user that runs Holdfast, and
// finds credentials in it, for whoever speaks to a service of AWS. It asks no service
// but those that hand out credentials.
package awslogin

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Load reads a profile, "" for the default one; region replaces its region unless it
// is "". Nothing is tried again. The certificates are those of AWS_CA_BUNDLE, nil for the
// system's; the service is named in messages.
func Load(ctx context.Context, service, profile, region string) (aws.Config, *x509.CertPool, *Credentials, error) {
	client := awshttp.NewBuildableClient()
	load := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithHTTPClient(client),
		awsconfig.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		awsconfig.WithLogger(logging.Nop{}),
	}
	if profile != "" {
		load = append(load, awsconfig.WithSharedConfigProfile(profile))
	}
	if region != "" {
		load = append(load, awsconfig.WithRegion(region))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return cfg, nil, nil, fault.New(fault.Config, "read", "the AWS configuration", "%w", err).
			WithHint("correct aws_profile, or the files ~/.aws/config and ~/.aws/credentials of the user that runs holdfast")
	}
	if with, is := cfg.HTTPClient.(*awshttp.BuildableClient); is {
		client = with
	}
	var found *Credentials
	if cfg.Credentials != nil {
		found = newCredentials(service, cfg.Credentials, load)
		cfg.Credentials = found.cache
	}
	var roots *x509.CertPool
	if c := client.GetTransport().TLSClientConfig; c != nil {
		roots = c.RootCAs
	}
	return cfg, roots, found, nil
}

// Innermost is the cause of all.
func Innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
