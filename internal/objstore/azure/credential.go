package azure

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// credential lets requests in.
type credential interface {
	// authorize completes a request, whose headers and query are final but for what it adds.
	authorize(ctx context.Context, req *http.Request) error
	// source lets the service read a blob that a request of ours names: it changes the blob's address, or adds a header.
	source(ctx context.Context, s *Store, name string, header http.Header) (string, error)
	// forget drops what may have been replaced, and reports whether another try has a point.
	forget() bool
}

// sharedKey is a key of the account.
type sharedKey struct {
	account string
	key     []byte
}

func (k sharedKey) forget() bool { return false }

func (k sharedKey) sign(text string) string {
	mac := hmac.New(sha256.New, k.key)
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// signedHeaders are the standard ones that a signature covers, in its order; a date stands in x-ms-date.
var signedHeaders = []string{"Content-Encoding", "Content-Language", "Content-Length", "Content-Md5", "Content-Type", "Date",
	"If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range"}

func (k sharedKey) authorize(_ context.Context, req *http.Request) error {
	var text strings.Builder
	text.WriteString(req.Method + "\n")
	for _, name := range signedHeaders {
		value := req.Header.Get(name)
		if name == "Content-Length" && req.ContentLength > 0 {
			value = strconv.FormatInt(req.ContentLength, 10)
		}
		text.WriteString(value + "\n")
	}
	var own []string
	for name, values := range req.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-ms-") {
			own = append(own, name+":"+strings.Join(values, ",")+"\n")
		}
	}
	slices.Sort(own)
	text.WriteString(strings.Join(own, "") + "/" + k.account + req.URL.EscapedPath())
	var query []string
	for name, values := range req.URL.Query() {
		slices.Sort(values)
		query = append(query, "\n"+strings.ToLower(name)+":"+strings.Join(values, ","))
	}
	slices.Sort(query)
	text.WriteString(strings.Join(query, ""))
	req.Header.Set("Authorization", "SharedKey "+k.account+":"+k.sign(text.String()))
	return nil
}

// sourceTime is for how long a signature for reading a source is good.
const sourceTime = time.Hour

// source signs for one blob, reading only, for an hour.
func (k sharedKey) source(_ context.Context, s *Store, name string, _ http.Header) (string, error) {
	end := time.Now().Add(sourceTime).UTC().Format("2006-01-02T15:04:05Z")
	text := strings.Join([]string{"r", "", end, "/blob/" + k.account + "/" + s.at.Bucket + "/" + name, "", "", "", version, "b", "", "", "", "", "", "", ""}, "\n")
	q := url.Values{"sp": {"r"}, "se": {end}, "sv": {version}, "sr": {"b"}, "sig": {k.sign(text)}}
	return s.address(name) + "?" + q.Encode(), nil
}

// sas is a shared access signature.
type sas url.Values

func (t sas) forget() bool { return false }

func (t sas) authorize(_ context.Context, req *http.Request) error {
	q := req.URL.Query()
	for name, values := range t {
		q[name] = values
	}
	req.URL.RawQuery = q.Encode()
	return nil
}

func (t sas) source(_ context.Context, s *Store, name string, _ http.Header) (string, error) {
	return s.address(name) + "?" + url.Values(t).Encode(), nil
}

// entra are tokens of Microsoft Entra ID.
type entra struct {
	kind  string // of azure_credential
	mu    sync.Mutex
	token azcore.TokenCredential
}

// audience is what tokens are for.
const audience = "https://storage.azure.com/.default"

func (e *entra) bearer(ctx context.Context) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.token == nil {
		var err error
		switch e.kind {
		case "azure-cli":
			e.token, err = azidentity.NewAzureCLICredential(nil)
		case "managed-identity":
			e.token, err = azidentity.NewManagedIdentityCredential(nil)
		default:
			e.token, err = azidentity.NewDefaultAzureCredential(nil)
		}
		if err != nil {
			e.token = nil
			return "", e.refused(ctx, err)
		}
	}
	token, err := e.token.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{audience}})
	if err != nil {
		return "", e.refused(ctx, err)
	}
	return "Bearer " + token.Token, nil
}

// refused is why there is no token. What a service says is not repeated, for it may hold what it was sent.
func (e *entra) refused(ctx context.Context, err error) error {
	const what = "a token for Azure Blob Storage"
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var answer *azidentity.AuthenticationFailedError
	if errors.As(err, &answer) && answer.RawResponse != nil {
		status := answer.RawResponse.StatusCode
		if status == http.StatusTooManyRequests || status >= 500 {
			return fault.New(fault.Connection, "fetch", what, "the service of tokens is busy or failing (%d)", status).WithHint("Holdfast tries again by itself")
		}
		return fault.New(fault.Permission, "fetch", what, "the credentials are refused (%d)", status).WithHint("%s", credentialsHint)
	}
	var at *url.Error
	if errors.As(err, &at) {
		return objstore.Network("fetch", what, "the service of tokens", at.Err)
	}
	return fault.New(fault.Permission, "find", "credentials for Azure Blob Storage", "azure_credential = %s yields none", cmp.Or(e.kind, "default")).WithHint("%s", credentialsHint)
}

const credentialsHint = "set AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_KEY, run az login as the user that runs holdfast, or give this host a managed identity"

func (e *entra) forget() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.token = nil
	return true
}

func (e *entra) authorize(ctx context.Context, req *http.Request) error {
	token, err := e.bearer(ctx)
	req.Header.Set("Authorization", token)
	return err
}

func (e *entra) source(ctx context.Context, s *Store, name string, header http.Header) (string, error) {
	token, err := e.bearer(ctx)
	header.Set("X-Ms-Copy-Source-Authorization", token)
	return s.address(name), err
}
