package s3_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/s3"
)

// TestAnswers: what a store answers means one kind of fault, in one line with its cure.
func TestAnswers(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_CA_BUNDLE", "")
	for _, c := range []struct {
		status int
		code   string
		kind   fault.Kind
		hint   string
	}{
		{403, "AccessDenied", fault.Permission, "s3:PutObject"},
		{403, "InvalidAccessKeyId", fault.Permission, "AWS_ACCESS_KEY_ID"},
		{403, "SignatureDoesNotMatch", fault.Permission, "AWS_SECRET_ACCESS_KEY"},
		{400, "ExpiredToken", fault.Permission, "log in again"},
		{403, "RequestTimeTooSkewed", fault.Config, "timedatectl"},
		{404, "NoSuchBucket", fault.Config, "create it"},
		{400, "InvalidBucketName", fault.Config, "correct the URL"},
		{301, "PermanentRedirect", fault.Config, "aws_region = eu-central-1"},
		{400, "AuthorizationHeaderMalformed", fault.Config, "aws_region"},
		{400, "BadDigest", fault.Corrupt, "https"},
		{507, "InsufficientStorage", fault.Disk, "make room"},
		{507, "XMinioStorageFull", fault.Disk, "make room"},
		{403, "QuotaExceeded", fault.Disk, "make room"},
		{412, "PreconditionFailed", fault.Conflict, "left as it is"},
		{409, "ConditionalRequestConflict", fault.Connection, "try again"},
		{500, "InternalError", fault.Connection, "tries again"},
		{503, "SlowDown", fault.Connection, "tries again"},
		{429, "TooManyRequests", fault.Connection, "tries again"},
		{400, "RequestTimeout", fault.Connection, "tries again"},
		{501, "NotImplemented", fault.Unavailable, "speaks S3"},
		{405, "MethodNotAllowed", fault.Unavailable, "speaks S3"},
		{404, "SomethingOfItsOwn", fault.Unavailable, "speaks S3"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if c.status == http.StatusMovedPermanently {
				w.Header().Set("x-amz-bucket-region", "eu-central-1")
			}
			w.WriteHeader(c.status)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>of the store</Message></Error>", c.code)
		}))
		s, err := s3.Open(t.Context(), objstore.Location{Provider: objstore.S3, Bucket: "bucket"}, config.CloudOptions{HoldfastEndpointURL: server.URL}, &objstore.Policy{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Put(t.Context(), "key", strings.NewReader("x"), objstore.PutOptions{})
		if !fault.Is(err, c.kind) || !strings.Contains(fault.HintOf(err), c.hint) || strings.Contains(err.Error()+fault.HintOf(err), "s3cret") || len(err.Error()) > 120 {
			t.Errorf("%d %s: %s %v (%s)", c.status, c.code, fault.KindOf(err), err, fault.HintOf(err))
		}
		server.Close()
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Setenv("AWS_CA_BUNDLE", "")
	t.Setenv("AWS_PROFILE", "")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	at := objstore.Location{Provider: objstore.S3, Bucket: "bucket"}
	for says, o := range map[string]config.CloudOptions{
		"http://HOST:PORT":  {HoldfastEndpointURL: "localhost"},
		"AWS configuration": {AWSProfile: "nobody"},
	} {
		if _, err := s3.Open(t.Context(), at, o, &objstore.Policy{}); !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), says) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// TestCredentialsAreReplaced: expired credentials are looked for anew, where they were found, as
// long as there is patience; then the error says what is wrong with them.
func TestCredentialsAreReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(key string) {
		if err := os.WriteFile(file, fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = s3cret\n", key), 0o600); err != nil {
			t.Error(err)
		}
	}
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_REGION": "us-east-1", "AWS_PROFILE": "", "AWS_CA_BUNDLE": "",
		"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": file} {
		t.Setenv(name, value)
	}
	for name, c := range map[string]struct {
		patience time.Duration
		after    int64 // refusals until the file is replaced
		kind     fault.Kind
	}{"in time": {time.Minute, 2, ""}, "too late": {300 * time.Millisecond, 1 << 20, fault.Permission}, "without patience": {0, 1 << 20, fault.Permission}} {
		write("OLDKEY")
		var refused atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.Header.Get("Authorization"), "NEWKEY") {
				return
			}
			if refused.Add(1) == c.after {
				write("NEWKEY")
			}
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<Error><Code>ExpiredToken</Code><Message>of the store</Message></Error>")
		}))
		p := &objstore.Policy{Patience: c.patience}
		s, err := s3.Open(t.Context(), objstore.Location{Provider: objstore.S3, Bucket: "bucket"}, config.CloudOptions{HoldfastEndpointURL: server.URL}, p)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Put(t.Context(), "key", strings.NewReader("x"), objstore.PutOptions{})
		switch {
		case c.kind == "" && (err != nil || refused.Load() != c.after || p.Trouble() != ""):
			t.Errorf("%s: %v after %d refusals, %q", name, err, refused.Load(), p.Trouble())
		case c.kind != "" && (!fault.Is(err, c.kind) || !strings.Contains(err.Error(), "expired") || !strings.Contains(fault.HintOf(err), "log in again")):
			t.Errorf("%s: %v (%s)", name, err, fault.HintOf(err))
		}
		server.Close()
	}
}
