package azure

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/holdfast-pg/holdfast/internal/entra"
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

// token is one of Microsoft Entra ID.
type token struct{ *entra.Source }

func newToken(kind string) token {
	return token{&entra.Source{Kind: kind, For: "Azure Blob Storage", Hint: credentialsHint}}
}

// audience is what tokens are for.
const audience = "https://storage.azure.com/.default"

func (e token) bearer(ctx context.Context) (string, error) {
	text, err := e.Get(ctx, policy.TokenRequestOptions{Scopes: []string{audience}})
	if err != nil {
		return "", err
	}
	return "Bearer " + text, nil
}

const credentialsHint = "set AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_KEY, run az login as the user that runs holdfast, or give this host a managed identity"

func (e token) forget() bool {
	e.Forget()
	return true
}

func (e token) authorize(ctx context.Context, req *http.Request) error {
	text, err := e.bearer(ctx)
	req.Header.Set("Authorization", text)
	return err
}

func (e token) source(ctx context.Context, s *Store, name string, header http.Header) (string, error) {
	text, err := e.bearer(ctx)
	header.Set("X-Ms-Copy-Source-Authorization", text)
	return s.address(name), err
}
