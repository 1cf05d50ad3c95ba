package azure_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/azure"
)

func open(t *testing.T, where string, o config.CloudOptions, p *objstore.Policy) *azure.Store {
	t.Helper()
	at, err := objstore.ParseURL(where)
	if err != nil {
		t.Fatal(err)
	}
	s, err := azure.Open(at, o, p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const (
	account = "https://acct.blob.core.windows.net/container/x"
	key     = "czNjcmV0" // s3cret
)

// variables sets those that the driver and the vendor's library read, and hides all others of theirs.
func variables(t *testing.T, set map[string]string) {
	t.Helper()
	for _, name := range []string{"AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_KEY", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET",
		"AZURE_TENANT_ID", "AZURE_TOKEN_CREDENTIALS", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT"} {
		t.Setenv(name, set[name])
		if set[name] != "" {
			continue
		}
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
}

// spoken answers as Azure does, and keeps the requests.
type spoken struct {
	mu       sync.Mutex
	requests []*http.Request
	answer   func(w http.ResponseWriter, r *http.Request)
}

func (s *spoken) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	s.mu.Lock()
	s.requests = append(s.requests, r)
	s.mu.Unlock()
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Length", "10")
	}
	s.answer(w, r)
}

// speak is a store that speaks with a server of the test's.
func speak(t *testing.T, o config.CloudOptions, answer func(w http.ResponseWriter, r *http.Request)) (*azure.Store, *spoken) {
	t.Helper()
	heard := &spoken{answer: answer}
	server := httptest.NewServer(heard)
	t.Cleanup(server.Close)
	s := open(t, account, o, &objstore.Policy{})
	s.Redirect(server.URL)
	return s, heard
}

// TestAnswers: what a store answers means one kind of fault, in one line with its cure.
func TestAnswers(t *testing.T) {
	variables(t, map[string]string{"AZURE_STORAGE_KEY": key})
	for _, c := range []struct {
		status   int
		code, op string
		kind     fault.Kind
		hint     string
	}{
		{403, "AuthorizationPermissionMismatch", "put", fault.Permission, "Storage Blob Data Contributor"},
		{403, "AuthenticationFailed", "put", fault.Permission, "clock"},
		{401, "NoAuthenticationInformation", "put", fault.Permission, "az login"},
		{404, "ContainerNotFound", "list", fault.Config, "create it"},
		{404, "ContainerNotFound", "put", fault.Config, "create it"},
		{404, "BlobNotFound", "stat", fault.NotFound, ""},
		{400, "InvalidResourceName", "put", fault.Config, "correct the URL"},
		{400, "Md5Mismatch", "put", fault.Corrupt, ""},
		{409, "BlobAlreadyExists", "put", fault.Conflict, "left as it is"},
		{412, "ConditionNotMet", "put", fault.Conflict, "left as it is"},
		{409, "BlobImmutableDueToPolicy", "delete", fault.Refused, "immutability policy"},
		{412, "LeaseIdMissing", "delete", fault.Refused, "break the lease"},
		{400, "InvalidBlobOrBlock", "put", fault.Refused, "a week"},
		{500, "InternalError", "put", fault.Connection, "tries again"},
		{503, "ServerBusy", "list", fault.Connection, "tries again"},
		{400, "InvalidHeaderValue", "put", fault.Unavailable, "correct what it says"},
		{200, "", "list", fault.Unavailable, "Azure Blob Storage"}, // somebody else's page
	} {
		s, _ := speak(t, config.CloudOptions{}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Ms-Error-Code", c.code)
			w.WriteHeader(c.status)
			fmt.Fprintf(w, "\ufeff<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>Of the store.\nRequestId:1</Message></Error", c.code)
		})
		var err error
		switch c.op {
		case "put":
			_, err = s.Put(t.Context(), "key", strings.NewReader("x"), objstore.PutOptions{})
		case "delete":
			err = s.Delete(t.Context(), "key")
		case "stat":
			_, err = s.Stat(t.Context(), "key")
		case "list":
			for _, err = range s.List(t.Context(), "") {
			}
		}
		if !fault.Is(err, c.kind) || !strings.Contains(fault.HintOf(err), c.hint) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 160 {
			t.Errorf("%d %s: %s %v (%s)", c.status, c.code, fault.KindOf(err), err, fault.HintOf(err))
		}
	}
}

// TestHeaders: what makes an object, or a block, says in which scope; tags come with objects. A range
// that is longer than what Azure copies at once becomes several blocks of one part.
func TestHeaders(t *testing.T) {
	variables(t, map[string]string{"AZURE_STORAGE_KEY": key})
	s, heard := speak(t, config.CloudOptions{HoldfastAzureEncryptionScope: "ours", HoldfastTags: config.Tags{"team": "db", "cost centre": "7/a"}}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"e"`)
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusCreated)
		}
	})
	if _, err := s.Put(t.Context(), "key", strings.NewReader("x"), objstore.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	u, err := s.BeginCopy(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.CopyPart(t.Context(), u, 1, "a b/ü", objstore.Range{Offset: 5, Length: 250 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Complete(t.Context(), u, []objstore.Part{p}, objstore.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Copy(t.Context(), "key", "other"); err != nil {
		t.Fatal(err)
	}
	var ranges, kinds []string
	for _, r := range heard.requests {
		if r.Method != http.MethodPut {
			continue
		}
		h, kind := r.Header, r.URL.Query().Get("comp")
		kinds = append(kinds, kind)
		if h.Get("X-Ms-Encryption-Scope") != "ours" || !strings.HasPrefix(h.Get("Authorization"), "SharedKey acct:") {
			t.Errorf("%s: %v", r.URL, h)
		}
		if tags, makes := h.Get("X-Ms-Tags"), kind != "block"; makes != (tags == "cost+centre=7%2Fa&team=db") {
			t.Errorf("%s: tags %q", r.URL, tags)
		}
		if from := h.Get("X-Ms-Source-Range"); from != "" {
			ranges = append(ranges, from)
			u, err := url.Parse(h.Get("X-Ms-Copy-Source"))
			if err != nil || u.Path != "/container/x/a b/ü" || u.Query().Get("sp") != "r" || u.Query().Get("sig") == "" {
				t.Errorf("the source is %v, %v", u, err)
			}
		}
	}
	if want := []string{"bytes=5-104857604", "bytes=104857605-209715204", "bytes=209715205-262144004"}; !slices.Equal(ranges, want) {
		t.Errorf("ranges %q", ranges)
	}
	if want := []string{"", "block", "block", "block", "block", "blocklist", ""}; !slices.Equal(kinds, want) {
		t.Errorf("requests %q", kinds)
	}
}

// TestAborted: what an Abort puts in the place of blocks is no object, and is listed for another Abort.
func TestAborted(t *testing.T) {
	variables(t, map[string]string{"AZURE_STORAGE_KEY": key})
	deleted := false
	s, _ := speak(t, config.CloudOptions{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"e"`)
		w.Header().Set("X-Ms-Meta-Holdfast_aborted", "yes")
		switch {
		case r.Method == http.MethodDelete:
			deleted = r.Header.Get("If-Match") == `"e"`
		case r.URL.Query().Get("comp") == "list":
			fmt.Fprint(w, `<EnumerationResults><Blobs><Blob><Name>x/key</Name><Properties><Content-Length>0</Content-Length></Properties><Metadata><holdfast_aborted>yes</holdfast_aborted></Metadata></Blob></Blobs></EnumerationResults>`)
		case r.URL.Query().Get("comp") == "blocklist":
			fmt.Fprint(w, `<BlockList></BlockList>`)
		}
	})
	if _, err := s.Stat(t.Context(), "key"); !fault.Is(err, fault.NotFound) {
		t.Errorf("stat: %v", err)
	}
	if _, _, err := s.Get(t.Context(), "key", objstore.Whole()); !fault.Is(err, fault.NotFound) {
		t.Errorf("get: %v", err)
	}
	for o, err := range s.List(t.Context(), "") {
		t.Errorf("listed: %+v, %v", o, err)
	}
	n := 0
	for u, err := range s.Uploads(t.Context(), "") {
		if n++; err != nil || u.Key != "key" {
			t.Fatalf("%+v, %v", u, err)
		}
		if err := s.Abort(t.Context(), u); err != nil {
			t.Error(err)
		}
	}
	if n != 1 || !deleted {
		t.Errorf("%d uploads, deleted: %t", n, deleted)
	}
}

func TestLocks(t *testing.T) {
	variables(t, map[string]string{"AZURE_STORAGE_KEY": key})
	until := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		headers map[string]string
		want    objstore.Lock
	}{
		{nil, objstore.Lock{}},
		{map[string]string{"X-Ms-Immutability-Policy-Mode": "Locked", "X-Ms-Immutability-Policy-Until-Date": until.Format(http.TimeFormat)}, objstore.Lock{Mode: "Locked", Until: until}},
		{map[string]string{"X-Ms-Legal-Hold": "true"}, objstore.Lock{Hold: true}},
	} {
		s, _ := speak(t, config.CloudOptions{}, func(w http.ResponseWriter, _ *http.Request) {
			for name, value := range c.headers {
				w.Header().Set(name, value)
			}
		})
		if l, err := s.LockOf(t.Context(), "key"); err != nil || l != c.want {
			t.Errorf("%v: %+v, %v", c.headers, l, err)
		}
	}
	s, _ := speak(t, config.CloudOptions{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Ms-Has-Immutability-Policy", "true")
		w.Header().Set("X-Ms-Has-Legal-Hold", "false")
	})
	if rule, err := s.NewLocks(t.Context()); err != nil || rule != "immutability policy of the container" {
		t.Errorf("%q, %v", rule, err)
	}
}

// TestOrderOfCredentials is Barman's, and what they are is never said.
func TestOrderOfCredentials(t *testing.T) {
	all := map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "AccountName=acct;AccountKey=" + base64.StdEncoding.EncodeToString([]byte("of the string")),
		"AZURE_STORAGE_SAS_TOKEN": "?sv=1&sig=s3cret", "AZURE_STORAGE_KEY": key}
	asked := func(o config.CloudOptions) *http.Request {
		s, heard := speak(t, o, func(w http.ResponseWriter, _ *http.Request) {})
		_, _ = s.Stat(t.Context(), "key")
		if len(heard.requests) == 0 {
			return &http.Request{Header: http.Header{}, URL: &url.URL{}}
		}
		return heard.requests[0]
	}
	all["IDENTITY_ENDPOINT"], all["IDENTITY_HEADER"] = identity(t, func() string { return "of-the-host" }), "h"
	variables(t, all)
	if r := asked(config.CloudOptions{AzureCredential: "managed-identity"}); r.Header.Get("Authorization") != "Bearer of-the-host" {
		t.Errorf("azure_credential does not come first: %v", r.Header)
	}
	first := asked(config.CloudOptions{}).Header.Get("Authorization")
	delete(all, "AZURE_STORAGE_CONNECTION_STRING")
	variables(t, all)
	r := asked(config.CloudOptions{})
	if !strings.HasPrefix(first, "SharedKey acct:") || r.URL.Query().Get("sig") != "s3cret" || r.Header.Get("Authorization") != "" {
		t.Errorf("%q, then %v", first, r.URL)
	}
	delete(all, "AZURE_STORAGE_SAS_TOKEN")
	variables(t, all)
	if r := asked(config.CloudOptions{}); !strings.HasPrefix(r.Header.Get("Authorization"), "SharedKey acct:") {
		t.Errorf("a key: %v", r.Header)
	}
	delete(all, "AZURE_STORAGE_KEY")
	variables(t, all)
	if r := asked(config.CloudOptions{}); r.Header.Get("Authorization") != "Bearer of-the-host" {
		t.Errorf("the default chain: %v", r.Header)
	}
}

// TestTokens: one that is about to expire is fetched anew, one that the store refuses is replaced once, and a
// source is read with one, too.
func TestTokens(t *testing.T) {
	n := 0
	identity := identity(t, func() string {
		n++
		return fmt.Sprintf("token-%d", n)
	})
	variables(t, map[string]string{"IDENTITY_ENDPOINT": identity, "IDENTITY_HEADER": "h"})
	refused := map[string]bool{}
	s, heard := speak(t, config.CloudOptions{AzureCredential: "managed-identity"}, func(w http.ResponseWriter, r *http.Request) {
		if refused[r.Header.Get("Authorization")] {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	stat := func() error {
		_, err := s.Stat(t.Context(), "key")
		return err
	}
	for range 3 {
		if err := stat(); err != nil {
			t.Fatal(err)
		}
	}
	if last := heard.requests[2].Header.Get("Authorization"); n != 3 || last != "Bearer token-3" {
		t.Errorf("%d tokens for three requests, each after the end of the last token: %s", n, last)
	}
	refused["Bearer token-4"] = true
	if err := stat(); err != nil || n != 5 {
		t.Errorf("a refused token: %v, after %d tokens", err, n)
	}
	if _, err := s.Copy(t.Context(), "key", "other"); err != nil {
		t.Fatal(err)
	}
	copied := slices.ContainsFunc(heard.requests, func(r *http.Request) bool {
		return strings.HasPrefix(r.Header.Get("X-Ms-Copy-Source-Authorization"), "Bearer token-") && strings.HasSuffix(r.Header.Get("X-Ms-Copy-Source"), "/container/x/key")
	})
	if !copied {
		t.Error("the source is not read with a token")
	}
	refused[fmt.Sprintf("Bearer token-%d", n+1)], refused[fmt.Sprintf("Bearer token-%d", n+2)] = true, true
	if err := stat(); !fault.Is(err, fault.Permission) || fault.HintOf(err) == "" || strings.Contains(err.Error(), "token-") {
		t.Errorf("tokens that stay refused: %v", err)
	}
}

// identity is the address of a managed identity whose tokens are good for a minute: the library replaces them at once.
func identity(t *testing.T, token func() string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"access_token":%q,"expires_on":"%d","resource":"r","token_type":"Bearer"}`, token(), time.Now().Add(time.Minute).Unix())
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestMistakes: one line, its cure, and nothing of a secret.
func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		where string
		set   map[string]string
		o     config.CloudOptions
		says  string
	}{
		{where: account, o: config.CloudOptions{HoldfastEndpointURL: "http://127.0.0.1:1"}, says: "endpoint URL"},
		{where: "http://127.0.0.1:1/acct/container", says: "connection string"},
		{where: account, set: map[string]string{"AZURE_STORAGE_KEY": "s3cret!"}, says: "base64"},
		{where: account, set: map[string]string{"AZURE_STORAGE_SAS_TOKEN": "s3cret"}, says: "shared access signature"},
		{where: account, set: map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "s3cret"}, says: "NAME=VALUE"},
		{where: account, set: map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "AccountName=acct"}, says: "neither AccountKey"},
		{where: account, set: map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "AccountName=other;AccountKey=" + key}, says: "account other"},
		{where: account, set: map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "AccountName=acct;BlobEndpoint=s3cret;AccountKey=" + key}, says: "BlobEndpoint"},
	} {
		variables(t, c.set)
		at, err := objstore.ParseURL(c.where)
		if err != nil {
			t.Fatal(err)
		}
		_, err = azure.Open(at, c.o, &objstore.Policy{})
		if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), c.says) || fault.HintOf(err) == "" || strings.Contains(err.Error()+fault.HintOf(err), "s3cret") || strings.Contains(err.Error(), key) {
			t.Errorf("%s, %v: %v (%s)", c.where, c.set, err, fault.HintOf(err))
		}
	}
	variables(t, nil)
	t.Setenv("PATH", t.TempDir()) // no az
	if _, err := open(t, account, config.CloudOptions{AzureCredential: "azure-cli"}, &objstore.Policy{}).Stat(t.Context(), "x"); !fault.Is(err, fault.Permission) || !strings.Contains(err.Error(), "azure_credential = azure-cli") || !strings.Contains(fault.HintOf(err), "az login") {
		t.Errorf("no az: %v (%s)", err, fault.HintOf(err))
	}
}
