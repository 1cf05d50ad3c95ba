package aws

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"

	"github.com/holdfast-pg/holdfast/internal/awslogin"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

const (
	// patience is for how long a call is tried again that AWS is too busy for.
	patience = 3 * time.Minute
	// pause is between two looks at a volume that is being made or attached.
	pause = 2 * time.Second
)

// api is the client of one region.
type api struct {
	client *ec2.Client
	region string
	creds  *awslogin.Credentials
	policy objstore.Policy
}

// Open prepares a provider; it asks EC2 for nothing. Credentials come from the library's
// default chain, and are fetched anew when they expire.
func Open(ctx context.Context, s *config.Server, host snapshot.Host) (*Provider, error) {
	cfg, roots, creds, err := awslogin.Load(ctx, "EC2", s.AWSProfile, s.AWSRegion)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		return nil, fault.New(fault.Config, "make snapshots for", s.Name, "no region is set").
			WithHint("set aws_region to that of snapshot_instance, or let the profile have one")
	}
	p := &Provider{Instance: s.SnapshotInstance, Names: s.SnapshotDisks, Host: host, Together: s.HoldfastSnapshotMultiVolume != "off",
		Timeout: s.AWSAwaitSnapshotsTimeout, Pause: pause, api: &api{region: cfg.Region, creds: creds, policy: objstore.Policy{Patience: patience}}}
	if p.Locking, err = lockOf(s); err != nil {
		return nil, err
	}
	cfg.HTTPClient = p.api.policy.Client(roots, s.AWSReadTimeout)
	if s.HoldfastSnapshotEndpoint != "" {
		cfg.BaseEndpoint = aws.String(s.HoldfastSnapshotEndpoint)
	}
	// What AWS is too busy for slows down all calls of a provider; the policy tries them again.
	busy := retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
		o.StandardOptions = append(o.StandardOptions, func(o *retry.StandardOptions) { o.MaxAttempts = 1 })
	})
	p.api.client = ec2.NewFromConfig(cfg, func(o *ec2.Options) { o.Retryer = busy })
	return p, nil
}

// once is for calls that make something: AWS must not be asked again before it was
// looked whether the first call has made it.
func once(o *ec2.Options) { o.Retryer = aws.NopRetryer{} }

// action is what a call does, for messages.
type action struct{ op, subject, rights string }

// call tries a call until it is answered, and gives errors their meaning. again says
// that an earlier call may have been carried out.
func call[T any](ctx context.Context, a *api, do action, f func(ctx context.Context, again bool) (T, error)) (out T, err error) {
	unsure := false
	err = a.policy.Do(ctx, func(ctx context.Context, _ bool) error {
		out, err = f(ctx, unsure)
		unsure = unsure || err != nil && !slices.Contains(throttled, codeOf(err))
		return a.explain(do, err)
	})
	if ctx.Err() != nil && err != nil {
		err = fault.Wrap(fault.Cancelled, do.op, do.subject, context.Cause(ctx))
	}
	return out, err
}

// throttled are the codes of calls that AWS has not carried out.
var throttled = []string{"RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled", "SnapshotCreationPerVolumeRateExceeded", "ConcurrentSnapshotLimitExceeded", "EC2ThrottledException"}

// codeOf is EC2's code of an error, "" when it has not answered.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// apiError keeps the code of what EC2 said.
type apiError struct{ code, text string }

func (e apiError) Error() string { return "AWS says: " + e.text }

// said reports whether EC2's code is one of these.
func said(err error, codes ...string) bool {
	var e apiError
	return errors.As(err, &e) && slices.Contains(codes, e.code)
}

// explain gives an answer that is an error its meaning.
func (a *api) explain(do action, err error) error {
	var known *fault.Error
	var answer *awshttp.ResponseError
	var api smithy.APIError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return fault.Wrap(known.Kind, do.op, do.subject, known)
	case !errors.As(err, &api):
		return objstore.Network(do.op, do.subject, "EC2 in "+a.region, err)
	}
	status := 0
	if errors.As(err, &answer) {
		status = answer.HTTPStatusCode()
	}
	return a.meaning(do, status, api.ErrorCode(), api.ErrorMessage())
}

// meaning of a status, a code and a text of EC2.
func (a *api) meaning(do action, status int, code, text string) error {
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > 300 {
		text = string(r[:300]) + "..."
	}
	cause := func(kind fault.Kind, hint string, args ...any) error {
		return fault.New(kind, do.op, do.subject, "%w", apiError{code, cmp.Or(code, http.StatusText(status)) + ": " + text}).WithHint(hint, args...)
	}
	if refused := a.creds.Refused(do.op, do.subject, code); refused != nil {
		return refused
	}
	switch {
	case slices.Contains(throttled, code) || code == "InternalError" || code == "Unavailable" || code == "ServiceUnavailable" || code == "RequestTimeout",
		status == http.StatusTooManyRequests || status >= 500 && status != http.StatusNotImplemented:
		return cause(fault.Connection, "AWS is busy or limits how often this is done; Holdfast tries again by itself")
	case strings.HasSuffix(code, "LimitExceeded") || strings.HasSuffix(code, "QuotaExceeded"):
		return cause(fault.Disk, "raise the quota of the account, or delete old backups, then take the backup again")
	case code == "UnauthorizedOperation" || code == "AccessDenied" || status == http.StatusForbidden:
		return cause(fault.Permission, "give the user or role %s; docs/snapshot-aws.md has a policy with all that is needed", do.rights)
	case strings.HasSuffix(code, ".NotFound"):
		return cause(fault.NotFound, "correct snapshot_instance, snapshot_disks or aws_region")
	case code == "SnapshotLocked":
		return cause(fault.Refused, "delete the backup when the lock has ended; EC2's console shows when")
	case code == "VolumeInUse" || code == "InvalidSnapshot.InUse" || code == "IncorrectState":
		return cause(fault.Refused, "wait, or release what uses it")
	}
	return cause(fault.Unavailable, "correct what it says")
}
