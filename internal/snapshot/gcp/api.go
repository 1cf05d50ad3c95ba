package gcp

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	compute "cloud.google.com/go/compute/apiv1"
	"cloud.google.com/go/compute/apiv1/computepb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/googletoken"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

const (
	scope = "https://www.googleapis.com/auth/compute"
	// patience is for how long a call is tried again that Google is too busy for.
	patience = 3 * time.Minute
	// firstPause is before the second look at an operation.
	firstPause = 250 * time.Millisecond
	longPause  = 5 * time.Second
)

// api are the clients of one project.
type api struct {
	instances   *compute.InstancesClient
	disks       *compute.DisksClient
	regionDisks *compute.RegionDisksClient
	snapshots   *compute.SnapshotsClient
	policy      objstore.Policy
}

// Open prepares a provider; it asks Google for nothing. Credentials are the
// application default ones, looked for at the first request.
func Open(s *config.Server, host snapshot.Host) (*Provider, error) {
	if s.GCPProject == "" {
		return nil, fault.New(fault.Config, "make snapshots for", s.Name, "gcp_project is not set").WithHint("set it to that of snapshot_instance")
	}
	base := s.HoldfastSnapshotEndpoint
	if universe := os.Getenv(googletoken.UniverseVariable); base == "" && universe != "" {
		base = "https://compute." + universe
	}
	base = cmp.Or(base, "https://compute.googleapis.com")
	p := &Provider{Project: s.GCPProject, Zone: s.GCPZone, Instance: s.SnapshotInstance, Names: s.SnapshotDisks, Host: host,
		Timeout: s.HoldfastSnapshotTimeout, Pause: firstPause, api: &api{policy: objstore.Policy{Patience: patience}}}
	client := p.api.policy.Client(nil, 0)
	client.Transport = &authorized{client.Transport, &googletoken.Source{For: "Google Compute Engine", Scope: scope}}
	ctx, options := context.Background(), []option.ClientOption{option.WithHTTPClient(client), option.WithEndpoint(base)}
	var errs [4]error
	p.api.instances, errs[0] = compute.NewInstancesRESTClient(ctx, options...)
	p.api.disks, errs[1] = compute.NewDisksRESTClient(ctx, options...)
	p.api.regionDisks, errs[2] = compute.NewRegionDisksRESTClient(ctx, options...)
	p.api.snapshots, errs[3] = compute.NewSnapshotsRESTClient(ctx, options...)
	return p, fault.Wrap(fault.Config, "prepare snapshots of", s.GCPProject, errors.Join(errs[:]...))
}

// authorized adds tokens to requests. One that is refused is replaced once.
type authorized struct {
	base   http.RoundTripper
	tokens *googletoken.Source
}

// RoundTrip implements http.RoundTripper.
func (a *authorized) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		defer req.Body.Close()
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	for again := false; ; again = true {
		token, err := a.tokens.Get(req.Context())
		if err != nil {
			return nil, err
		}
		one := req.Clone(req.Context())
		if body != nil {
			one.Body = io.NopCloser(bytes.NewReader(body))
			one.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		}
		token.SetAuthHeader(one)
		resp, err := a.base.RoundTrip(one)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || again {
			return resp, err
		}
		resp.Body.Close()
		a.tokens.Forget()
	}
}

// action is what a call does, for messages.
type action struct{ op, subject, rights string }

// call tries a call until it is answered, and gives errors their meaning.
func call[T any](ctx context.Context, a *api, do action, f func(context.Context) (T, error)) (out T, err error) {
	err = a.policy.Do(ctx, func(ctx context.Context, _ bool) error {
		out, err = f(ctx)
		return explain(do, err)
	})
	if ctx.Err() != nil && err != nil {
		err = fault.Wrap(fault.Cancelled, do.op, do.subject, context.Cause(ctx))
	}
	return out, err
}

// errTaken is that a name is there already.
var errTaken = errors.New("the name is taken")

// explain gives an answer that is an error its meaning.
func explain(do action, err error) error {
	var known *fault.Error
	var answer *googleapi.Error
	var network *url.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return fault.Wrap(known.Kind, do.op, do.subject, known)
	case errors.As(err, &answer):
		reason := ""
		if len(answer.Errors) > 0 {
			reason = answer.Errors[0].Reason
		}
		return meaning(do, answer.Code, reason, answer.Message)
	case errors.As(err, &network):
		return objstore.Network(do.op, do.subject, "Google Compute Engine", network.Err)
	}
	return fault.Wrap(fault.Unavailable, do.op, do.subject, err)
}

// meaning of a status, a reason or code, and a text of the API.
func meaning(do action, status int, reason, text string) error {
	said := strings.Join(strings.Fields(text), " ")
	if r := []rune(said); len(r) > 300 {
		said = string(r[:300]) + "..."
	}
	if reason != "" {
		said = reason + ": " + said
	}
	cause := func(kind fault.Kind, hint string, args ...any) error {
		return fault.New(kind, do.op, do.subject, "Google says: %s", said).WithHint(hint, args...)
	}
	switch strings.ToLower(strings.ReplaceAll(reason, "_", "")) {
	case "quotaexceeded", "limitexceeded":
		return cause(fault.Disk, "raise the quota of the project, or delete old backups, then take the backup again")
	case "ratelimitexceeded", "userratelimitexceeded", "backenderror", "resourceoperationrateexceeded", "resourceexhausted", "internalerror", "resourcenotready":
		return cause(fault.Connection, "Google is busy or limits how often this is done (six snapshots of a disk an hour); Holdfast tries again by itself")
	case "resourcenotfound":
		status = http.StatusNotFound
	case "resourcealreadyexists":
		status = http.StatusConflict
	case "permissiondenied", "forbidden":
		status = http.StatusForbidden
	}
	switch {
	case status == http.StatusUnauthorized:
		return cause(fault.Permission, "%s", googletoken.Hint)
	case status == http.StatusForbidden:
		return cause(fault.Permission, "give the account %s; docs/snapshot-gcp.md has a role with all that is needed", do.rights)
	case status == http.StatusNotFound:
		return cause(fault.NotFound, "correct gcp_project, gcp_zone, snapshot_instance or snapshot_disks")
	case status == http.StatusConflict && strings.EqualFold(strings.ReplaceAll(reason, "_", ""), "resourceInUseByAnotherResource"):
		return cause(fault.Refused, "detach or delete what uses it")
	case status == http.StatusConflict:
		return fault.New(fault.Conflict, do.op, do.subject, "%w: %s", errTaken, said).WithHint("look at what has the name")
	case status == http.StatusTooManyRequests || status >= 500 && status != http.StatusNotImplemented:
		return cause(fault.Connection, "see https://status.cloud.google.com; Holdfast tries again by itself")
	}
	return cause(fault.Unavailable, "correct what it says")
}

// operation is a *compute.Operation.
type operation interface {
	Done() bool
	Poll(ctx context.Context, opts ...gax.CallOption) error
	Proto() *computepb.Operation
}

// wait returns when enough says so, or the operation has ended; one that ended with
// an error is that error.
func (a *api) wait(ctx context.Context, do action, op operation, timeout, pause time.Duration, enough func() (bool, error)) error {
	for over := time.After(timeout); ; pause = min(pause*3/2, longPause) {
		if err := outcome(do, op); err != nil {
			return err
		}
		ready, err := enough()
		if err != nil || ready || op.Done() {
			warn(ctx, do, op)
			return err
		}
		select {
		case <-ctx.Done():
			return fault.Wrap(fault.Cancelled, do.op, do.subject, context.Cause(ctx))
		case <-over:
			return fault.New(fault.Unavailable, do.op, do.subject, "Google did not do it within %s", timeout).
				WithHint("look at the operation %s in the console, or raise holdfast_snapshot_timeout", op.Proto().GetName())
		case <-time.After(pause):
		}
		_, err = call(ctx, a, do, func(ctx context.Context) (struct{}, error) {
			err := op.Poll(ctx)
			if op.Proto().GetError() != nil {
				err = nil // outcome has its words
			}
			return struct{}{}, err
		})
		if err != nil {
			return err
		}
	}
}

// outcome is the error of an operation.
func outcome(do action, op operation) error {
	all := op.Proto().GetError().GetErrors()
	if len(all) == 0 {
		return nil
	}
	var texts []string
	for _, e := range all {
		texts = append(texts, fmt.Sprintf("%s (%s)", e.GetMessage(), e.GetCode()))
	}
	return meaning(do, int(op.Proto().GetHttpErrorStatusCode()), all[0].GetCode(), strings.Join(texts, "; "))
}

func warn(ctx context.Context, do action, op operation) {
	for _, w := range op.Proto().GetWarnings() {
		slog.WarnContext(ctx, "Google warns", "action", do.op, "subject", do.subject, "code", w.GetCode(), "message", w.GetMessage())
	}
}
