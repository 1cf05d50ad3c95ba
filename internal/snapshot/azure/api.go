package azure

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/entra"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

const (
	// patience is for how long a call is tried again that Azure is too busy for.
	patience = 3 * time.Minute
	// firstPause is before the second look at an operation.
	firstPause = 500 * time.Millisecond
	longPause  = 5 * time.Second

	credentialsHint = "run az login as the user that runs holdfast, set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or give this host a managed identity; azure_credential says which of them is used"
)

// api are the clients of one subscription.
type api struct {
	machines  *armcompute.VirtualMachinesClient
	disks     *armcompute.DisksClient
	snapshots *armcompute.SnapshotsClient
	tokens    *entra.Source
	policy    objstore.Policy
}

// Open prepares a provider; it asks Azure for nothing.
func Open(s *config.Server, host snapshot.Host) (*Provider, error) {
	if s.AzureSubscriptionID == "" || s.AzureResourceGroup == "" {
		return nil, fault.New(fault.Config, "make snapshots for", s.Name, "azure_subscription_id or azure_resource_group is not set").WithHint("set both to those of snapshot_instance")
	}
	p := &Provider{Subscription: s.AzureSubscriptionID, Group: s.AzureResourceGroup, Instance: s.SnapshotInstance, Names: s.SnapshotDisks, Host: host,
		Timeout: s.HoldfastSnapshotTimeout, Pause: firstPause,
		api: &api{tokens: &entra.Source{Kind: s.AzureCredential, For: "the Azure Resource Manager", Hint: credentialsHint}, policy: objstore.Policy{Patience: patience}}}
	options := &arm.ClientOptions{DisableRPRegistration: true}
	options.Retry.MaxRetries = -1 // the policy tries again
	options.Transport = p.api.policy.Client(nil, 0)
	if base := s.HoldfastSnapshotEndpoint; base != "" {
		options.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: base, Audience: base}}}
		options.InsecureAllowCredentialWithHTTP = strings.HasPrefix(base, "http://")
	}
	factory, err := armcompute.NewClientFactory(p.Subscription, (*credential)(p.api.tokens), options)
	if err != nil {
		return nil, fault.Wrap(fault.Config, "prepare snapshots of", p.Subscription, err)
	}
	p.api.machines, p.api.disks, p.api.snapshots = factory.NewVirtualMachinesClient(), factory.NewDisksClient(), factory.NewSnapshotsClient()
	return p, nil
}

// credential gives the library tokens that it does not keep: the source does.
type credential entra.Source

// GetToken implements azcore.TokenCredential.
func (c *credential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	text, err := (*entra.Source)(c).Get(ctx, o)
	return azcore.AccessToken{Token: text}, err
}

// action is what a call does, for messages.
type action struct{ op, subject, rights string }

// call tries a call until it is answered, and gives errors their meaning. A token
// that is refused is replaced once.
func call[T any](ctx context.Context, a *api, do action, f func(context.Context) (T, error)) (out T, err error) {
	err = a.policy.Do(ctx, func(ctx context.Context, _ bool) error {
		out, err = f(ctx)
		var answer *azcore.ResponseError
		if errors.As(err, &answer) && answer.StatusCode == http.StatusUnauthorized {
			a.tokens.Forget()
			out, err = f(ctx)
		}
		return explain(do, err)
	})
	if ctx.Err() != nil && err != nil {
		err = fault.Wrap(fault.Cancelled, do.op, do.subject, context.Cause(ctx))
	}
	return out, err
}

func code(err error) string {
	var answer *azcore.ResponseError
	if errors.As(err, &answer) {
		return answer.ErrorCode
	}
	return ""
}

// missing reports whether something is not there.
func missing(err error) bool { return fault.Is(err, fault.NotFound) }

// groupMissing reports whether it is the resource group that is not there.
func groupMissing(err error) bool { return code(err) == "ResourceGroupNotFound" }

// answered is an error of the API, in its words.
type answered struct {
	text string
	err  *azcore.ResponseError
}

func (a *answered) Error() string { return a.text }
func (a *answered) Unwrap() error { return a.err }

// explain gives an answer that is an error its meaning.
func explain(do action, err error) error {
	var known *fault.Error
	var answer *azcore.ResponseError
	var network *url.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return fault.Wrap(known.Kind, do.op, do.subject, known)
	case errors.As(err, &answer):
		return meaning(do, answer)
	case errors.As(err, &network):
		return objstore.Network(do.op, do.subject, "the Azure Resource Manager", network.Err)
	}
	return fault.Wrap(fault.Unavailable, do.op, do.subject, err)
}

func meaning(do action, answer *azcore.ResponseError) error {
	var body struct {
		Error struct{ Message string }
	}
	if answer.RawResponse != nil {
		if text, err := runtime.Payload(answer.RawResponse); err == nil {
			_ = json.Unmarshal(text, &body) // an answer of something between us and Azure has another form
		}
	}
	said := strings.Join(strings.Fields(body.Error.Message), " ")
	if r := []rune(said); len(r) > 300 {
		said = string(r[:300]) + "..."
	}
	status := answer.StatusCode
	if said == "" {
		said = http.StatusText(status)
	}
	if answer.ErrorCode != "" {
		said = answer.ErrorCode + ": " + said
	}
	cause := func(kind fault.Kind, hint string, args ...any) error {
		return fault.New(kind, do.op, do.subject, "%w", &answered{"Azure says: " + said, answer}).WithHint(hint, args...)
	}
	const busy = "Azure is busy, or does something else with it; Holdfast tries again by itself"
	switch answer.ErrorCode {
	case "QuotaExceeded", "ResourceQuotaExceeded", "SnapshotCountExceeded":
		return cause(fault.Disk, "raise the quota of the subscription, or delete old backups, then take the backup again")
	case "TooManyRequests", "OperationPreempted", "AnotherOperationInProgress", "RetryableError", "InternalServerError", "InternalExecutionError", "Conflict":
		return cause(fault.Connection, busy)
	case "ScopeLocked":
		return cause(fault.Refused, "remove the lock of the resource group, or of the snapshot")
	}
	switch {
	case status == http.StatusConflict && strings.Contains(strings.ToLower(said), "quota"):
		return cause(fault.Disk, "raise the quota of the subscription, or delete old backups, then take the backup again")
	case status == http.StatusUnauthorized:
		return cause(fault.Permission, "%s", credentialsHint)
	case status == http.StatusForbidden:
		return cause(fault.Permission, "give the identity %s; docs/snapshot-azure.md has a role with all that is needed", do.rights)
	case status == http.StatusNotFound:
		return cause(fault.NotFound, "correct azure_resource_group, azure_subscription_id, snapshot_instance or snapshot_disks")
	case status == http.StatusTooManyRequests || status >= 500 && status != http.StatusNotImplemented:
		return cause(fault.Connection, busy)
	}
	return cause(fault.Unavailable, "correct what it says")
}

// operation is a call that Azure carries out while we look.
type operation interface {
	Done() bool
	look(ctx context.Context) error
	// end is the error that a call has ended with.
	end(ctx context.Context) error
}

type poller[T any] struct{ *runtime.Poller[T] }

func (p poller[T]) look(ctx context.Context) error {
	resp, err := p.Poll(ctx)
	if resp != nil {
		_ = resp.Body.Close() // the library has read it
	}
	return err
}

func (p poller[T]) end(ctx context.Context) error {
	_, err := p.Result(ctx)
	return err
}

// begun is an operation of the library.
func begun[T any](p *runtime.Poller[T], err error) (operation, error) {
	if err != nil {
		return nil, err
	}
	return poller[T]{p}, nil
}

// wait returns when an operation has succeeded.
func (p *Provider) wait(ctx context.Context, do action, run operation) error {
	return p.until(ctx, do, func() (bool, error) {
		_, err := call(ctx, p.api, do, func(ctx context.Context) (struct{}, error) {
			if !run.Done() {
				if err := run.look(ctx); err != nil {
					return struct{}{}, err
				}
			}
			if run.Done() {
				return struct{}{}, run.end(ctx)
			}
			return struct{}{}, nil
		})
		return run.Done(), err
	})
}

// until asks again and again whether something is so.
func (p *Provider) until(ctx context.Context, do action, is func() (bool, error)) error {
	for over, pause := time.After(p.Timeout), p.Pause; ; pause = min(pause*3/2, longPause) {
		if so, err := is(); so || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fault.Wrap(fault.Cancelled, do.op, do.subject, context.Cause(ctx))
		case <-over:
			return fault.New(fault.Unavailable, do.op, do.subject, "Azure did not do it within %s", p.Timeout).
				WithHint("look at the activity log of the resource group, or raise holdfast_snapshot_timeout")
		case <-time.After(pause):
		}
	}
}
