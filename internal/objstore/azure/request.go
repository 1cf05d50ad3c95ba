package azure

import (
	"bytes"
	"context"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// version is that of the REST API.
const version = "2023-11-03"

// request is one call of the REST API.
type request struct {
	op, key string // for messages
	method  string
	name    string // of the blob; "" is the container
	query   url.Values
	header  http.Header
	body    []byte
	from    string // name of a blob that the service is to read for it
}

// mostAnswer bounds what is read of an answer that is not an object's content.
const mostAnswer = 64 << 20

// ask tries a request until it is answered, and reads the answer into into unless that is nil.
func (s *Store) ask(ctx context.Context, r request, into any) (h http.Header, err error) {
	err = s.policy.Do(ctx, func(ctx context.Context, _ bool) error {
		h, err = s.once(ctx, r, into)
		return err
	})
	return h, err
}

// once does a request once.
func (s *Store) once(ctx context.Context, r request, into any) (http.Header, error) {
	resp, err := s.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err != nil {
		return nil, objstore.Network(r.op, r.key, s.base, err)
	}
	if into != nil {
		if err := xml.Unmarshal(bytes.TrimPrefix(text, []byte("\ufeff")), into); err != nil {
			return nil, fault.New(fault.Unavailable, r.op, r.key, "the answer is not what Azure Blob Storage says").WithHint("see whether %s is Azure Blob Storage", s.base)
		}
	}
	return resp.Header, nil
}

// send is a request whose answer is not an error; its body is the caller's. A token that is refused is
// replaced once.
func (s *Store) send(ctx context.Context, r request) (*http.Response, error) {
	for again := false; ; again = true {
		resp, err := s.sendAs(ctx, r)
		if err != nil || resp.StatusCode < 300 {
			return resp, err
		}
		if resp.StatusCode == http.StatusUnauthorized && !again && s.access.forget() {
			resp.Body.Close()
			continue
		}
		err = s.explain(r, resp)
		resp.Body.Close()
		return nil, err
	}
}

func (s *Store) sendAs(ctx context.Context, r request) (*http.Response, error) {
	target := s.address(r.name)
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(r.body))
	if err != nil {
		return nil, fault.New(fault.Config, r.op, r.key, "no request can be made of its name").WithHint("correct the URL of the store")
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("X-Ms-Version", version)
	req.Header.Set("X-Ms-Date", time.Now().UTC().Format(http.TimeFormat))
	if r.from != "" {
		source, err := s.access.source(ctx, s, r.from, req.Header)
		if err != nil {
			return nil, err
		}
		req.Header.Set("X-Ms-Copy-Source", source)
	}
	if err := s.access.authorize(ctx, req); err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, objstore.Network(r.op, r.key, s.base, withoutURL(err))
	}
	return resp, nil
}

// withoutURL leaves the address, which may have a signature, out of an error.
func withoutURL(err error) error {
	if at, is := err.(*url.Error); is { //nolint:errorlint // it is what the client itself returns
		return at.Err
	}
	return err
}

// rights are what each operation needs, in the words of Azure's data actions.
var rights = map[string]string{
	"put": "blobs/write and blobs/add/action", "read": "blobs/read", "stat": "blobs/read", "list": "blobs/read", "list uploads of": "blobs/read",
	"delete": "blobs/delete", "abort": "blobs/write and blobs/delete", "copy": "blobs/read and blobs/write",
	"read the lock of": "blobs/read", "read the locks of": "containers/read",
}

// explain gives an answer that is an error its meaning.
func (s *Store) explain(r request, resp *http.Response) error {
	var answer struct{ Code, Message string }
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	_ = xml.Unmarshal(bytes.TrimPrefix(text, []byte("\ufeff")), &answer) // an answer of something between us and the store has another form
	code := resp.Header.Get("X-Ms-Error-Code")
	if code == "" {
		code = answer.Code
	}
	cause := code
	if said, _, _ := strings.Cut(answer.Message, "\n"); said != "" { // the lines behind have the time and the request
		cause += ": " + strings.ToValidUTF8(said[:min(len(said), 100)], "")
	}
	if cause == "" {
		cause = http.StatusText(resp.StatusCode)
	}
	switch code {
	case "ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled":
		return objstore.NoBucket(r.op, s.at.Bucket)
	case "InvalidResourceName":
		return fault.New(fault.Config, r.op, s.at.Bucket, "the store says that nothing can have this name").WithHint("correct the URL")
	case "BlobAlreadyExists":
		return objstore.Taken(r.key)
	case "InvalidBlockList":
		return objstore.Absent(r.op, r.key)
	case "InvalidBlobOrBlock": // its blocks have names of another length than ours
		return fault.New(fault.Refused, r.op, r.key, "another program's upload under this name is unfinished").
			WithHint("end that upload, or wait until Azure drops it, a week after its last block")
	case "InvalidRange":
		return objstore.ErrRange
	case "Md5Mismatch", "Crc64Mismatch":
		return objstore.Mismatch(r.op, r.key)
	case "BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold":
		return fault.New(fault.Refused, r.op, r.key, "it is locked (%s)", cause).WithHint("wait until its immutability policy is over, or have the legal hold cleared")
	case "LeaseIdMissing", "LeaseAlreadyPresent":
		return fault.New(fault.Refused, r.op, r.key, "somebody has a lease on it").WithHint("break the lease, if nothing needs it")
	case "AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation":
		return fault.New(fault.Permission, r.op, r.key, "the store refuses the credentials (%s)", code).
			WithHint("correct them, and the clock of this host, for signatures are good for 15 minutes; %s", credentialsHint)
	}
	status := resp.StatusCode
	switch {
	case status == http.StatusPreconditionFailed && r.op == "put":
		return objstore.Taken(r.key)
	case status == http.StatusPreconditionFailed:
		return fault.New(fault.Conflict, r.op, r.key, "it was replaced meanwhile").WithHint("do it again")
	case status == http.StatusNotFound:
		return objstore.Absent(r.op, r.key)
	case status == http.StatusRequestedRangeNotSatisfiable:
		return objstore.ErrRange
	case status == http.StatusUnauthorized:
		return fault.New(fault.Permission, r.op, r.key, "the store refuses the credentials (%s)", cause).WithHint("%s", credentialsHint)
	case status == http.StatusForbidden:
		return fault.New(fault.Permission, r.op, r.key, "the store denies it (%s)", cause).
			WithHint("give the identity the role Storage Blob Data Contributor on %s, or %s; a signature needs the same rights, and its time must not be over", s.at, rights[r.op])
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500 && status != http.StatusNotImplemented:
		return fault.New(fault.Connection, r.op, r.key, "the store is busy or failing (%d %s)", status, cause).
			WithHint("see the state of the store; Holdfast tries again by itself")
	}
	return fault.New(fault.Unavailable, r.op, r.key, "the store refuses the request (%d %s)", status, cause).
		WithHint("correct what it says, and see whether %s is Azure Blob Storage", s.base)
}
