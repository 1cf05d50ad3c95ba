package gcs

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/googletoken"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// request is one call of the JSON API.
type request struct {
	op, key string // for messages
	method  string
	path    string // escaped
	query   url.Values
	header  http.Header
	body    func() io.Reader // nil: none
	size    int64            // of the body
}

// mostAnswer bounds what is read of an answer that is not an object's content.
const mostAnswer = 64 << 20

// ask tries a request until it is answered, and reads the answer into into unless that is nil.
func (s *Store) ask(ctx context.Context, r request, into any) error {
	return s.policy.Do(ctx, func(ctx context.Context, _ bool) error { return s.once(ctx, r, into) })
}

// once does a request once.
func (s *Store) once(ctx context.Context, r request, into any) error {
	resp, err := s.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if into == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, mostAnswer))
	} else {
		err = json.NewDecoder(io.LimitReader(resp.Body, mostAnswer)).Decode(into)
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax), errors.As(err, &kind):
		return fault.New(fault.Unavailable, r.op, r.key, "the answer is not what Google Cloud Storage says").WithHint("see whether %s is Google Cloud Storage", s.base)
	}
	return objstore.Network(r.op, r.key, s.base, err)
}

// send is a request whose answer is not an error; its body is the caller's. A token that is refused is
// replaced once.
func (s *Store) send(ctx context.Context, r request) (*http.Response, error) {
	for again := false; ; again = true {
		resp, err := s.sendAs(ctx, r)
		if err != nil || resp.StatusCode < 300 {
			return resp, err
		}
		if resp.StatusCode == http.StatusUnauthorized && s.tokens != nil && !again {
			resp.Body.Close()
			s.tokens.Forget()
			continue
		}
		err = s.explain(r, resp)
		resp.Body.Close()
		return nil, err
	}
}

func (s *Store) sendAs(ctx context.Context, r request) (*http.Response, error) {
	target := s.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, nil)
	if err != nil {
		return nil, fault.New(fault.Config, r.op, r.key, "no request can be made of its name").WithHint("correct the URL of the store")
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if r.body != nil {
		req.Body, req.ContentLength = io.NopCloser(r.body()), r.size
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(r.body()), nil }
	}
	if s.tokens != nil {
		token, err := s.tokens.Get(ctx)
		if err != nil {
			return nil, err
		}
		token.SetAuthHeader(req)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, objstore.Network(r.op, r.key, s.base, err)
	}
	return resp, nil
}

// rights are what each operation needs.
var rights = map[string]string{
	"put": "storage.objects.create (and storage.objects.delete to replace)", "read": "storage.objects.get", "stat": "storage.objects.get",
	"list": "storage.objects.list", "list uploads of": "storage.objects.list", "delete": "storage.objects.delete", "abort": "storage.objects.list and storage.objects.delete",
	"copy": "storage.objects.get and storage.objects.create", "read the lock of": "storage.objects.get", "read the locks of": "storage.buckets.get",
}

// explain gives an answer that is an error its meaning.
func (s *Store) explain(r request, resp *http.Response) error {
	var answer struct {
		Error struct {
			Message string
			Errors  []struct{ Reason string }
		}
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	_ = json.Unmarshal(text, &answer) // an answer of something between us and the store has another form
	reason := ""
	if len(answer.Error.Errors) > 0 {
		reason = answer.Error.Errors[0].Reason
	}
	cause := http.StatusText(resp.StatusCode)
	if said := strings.Join(strings.Fields(answer.Error.Message), " "); said != "" {
		cause = strings.ToValidUTF8(said[:min(len(said), 100)], "")
	}
	if reason != "" {
		cause = reason + ": " + cause
	}
	status := resp.StatusCode
	switch reason {
	case "retentionPolicyNotMet", "objectUnderActiveHold":
		return fault.New(fault.Refused, r.op, r.key, "it is locked (%s)", cause).WithHint("wait until the retention is over, or have the hold lifted")
	case "rateLimitExceeded", "userRateLimitExceeded", "backendError":
		status = http.StatusTooManyRequests
	}
	switch {
	case status == http.StatusNotFound && (r.op == "list" || r.op == "list uploads of" || r.op == "read the locks of" || r.path == s.uploadPath()):
		return objstore.NoBucket(r.op, s.at.Bucket)
	case status == http.StatusNotFound:
		return objstore.Absent(r.op, r.key)
	case status == http.StatusPreconditionFailed && r.op == "put":
		return objstore.Taken(r.key)
	case status == http.StatusPreconditionFailed:
		return fault.New(fault.Conflict, r.op, r.key, "it was replaced meanwhile").WithHint("do it again")
	case status == http.StatusRequestedRangeNotSatisfiable:
		return objstore.ErrRange
	case status == http.StatusUnauthorized:
		return fault.New(fault.Permission, r.op, r.key, "the store refuses the credentials").WithHint("%s", googletoken.Hint)
	case status == http.StatusForbidden:
		return fault.New(fault.Permission, r.op, r.key, "the store denies it (%s)", cause).WithHint("give the account %s on %s", rights[r.op], s.at)
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status == http.StatusConflict || status >= 500 && status != http.StatusNotImplemented:
		return fault.New(fault.Connection, r.op, r.key, "the store is busy or failing (%d %s)", resp.StatusCode, cause).
			WithHint("see the state of the store; Holdfast tries again by itself")
	}
	return fault.New(fault.Unavailable, r.op, r.key, "the store refuses the request (%d %s)", status, cause).
		WithHint("correct what it says, and see whether %s is Google Cloud Storage", s.base)
}
