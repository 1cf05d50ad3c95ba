package s3_test

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/s3"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
)

// cloud is a server of its own configuration: what the options say of a server's section.
func cloud(t *testing.T, options string) config.CloudOptions {
	t.Helper()
	path := filepath.Join(t.TempDir(), "holdfast.conf")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	text := "[barman]\nbarman_home = " + t.TempDir() + "\nbarman_user = " + me.Username + "\n[main]\nactive = off\n" + options
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	all := c.Servers()
	if len(all) != 1 || len(all[0].Problems()) > 0 {
		t.Fatalf("%d servers: %v", len(all), all[0].Problems())
	}
	return all[0].CloudOptions
}

// spoken answers as S3 does, as far as the driver looks, and keeps the headers of each kind of request.
type spoken struct {
	mu    sync.Mutex
	heard map[string]http.Header
}

func (s *spoken) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	q, kind := r.URL.Query(), r.Method
	copies := r.Header.Get("X-Amz-Copy-Source") != ""
	switch {
	case q.Has("partNumber") && copies:
		kind = "copy part"
	case q.Has("partNumber"):
		kind = "part"
	case q.Has("uploads"):
		kind = "begin"
	case q.Has("uploadId"):
		kind = "complete"
	case copies:
		kind = "copy"
	}
	s.mu.Lock()
	s.heard[kind] = r.Header
	s.mu.Unlock()
	w.Header().Set("ETag", `"e"`)
	switch kind {
	case "begin":
		fmt.Fprint(w, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
	case "complete":
		fmt.Fprint(w, `<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>`)
	case "copy":
		fmt.Fprint(w, `<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>`)
	case "copy part":
		fmt.Fprint(w, `<CopyPartResult><ETag>"e"</ETag></CopyPartResult>`)
	case "GET", "HEAD":
		w.Header().Set("Content-Length", "4")
		fmt.Fprint(w, "text")
	}
}

// everything does each kind of request once.
func everything(t *testing.T, s *s3.Store) {
	t.Helper()
	for _, size := range []int{4, objstore.MinPart + 1} {
		if _, err := s.Put(t.Context(), "x", strings.NewReader(strings.Repeat("x", size)), objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	in, _, err := s.Get(t.Context(), "x", objstore.Whole())
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	if _, err := s.Copy(t.Context(), "x", "y"); err != nil {
		t.Fatal(err)
	}
	if _, err := objstore.CopyParts(t.Context(), s, objstore.Object{Key: "x", Size: 4}, "y", 4); err != nil {
		t.Fatal(err)
	}
}

// TestHeaders: a key of one's own comes with every request for an object, of both objects when one is copied,
// and tags come with all that makes one.
func TestHeaders(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	heard := &spoken{heard: map[string]http.Header{}}
	server := httptest.NewTLSServer(heard)
	defer server.Close()
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	raw := storetest.Bytes(32, 1)
	key, sum := base64.StdEncoding.EncodeToString(raw), md5.Sum(raw)
	file := filepath.Join(t.TempDir(), "sse.key")
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := cloud(t, "aws_sse_customer_key = file://"+file+"\nholdfast_tags = team=db, cost centre = 7/a\nholdfast_endpoint_url = "+server.URL+"\n")
	s, err := s3.Open(t.Context(), objstore.Location{Provider: objstore.S3, Bucket: "bucket"}, o, &objstore.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	everything(t, s)
	const of, source = "X-Amz-Server-Side-Encryption-Customer-", "X-Amz-Copy-Source-Server-Side-Encryption-Customer-"
	for _, kind := range []string{"PUT", "begin", "part", "complete", "GET", "HEAD", "copy", "copy part"} {
		h, prefixes := heard.heard[kind], []string{of}
		if strings.HasPrefix(kind, "copy") {
			prefixes = append(prefixes, source)
		}
		for _, p := range prefixes {
			if h.Get(p+"Algorithm") != "AES256" || h.Get(p+"Key") != key || h.Get(p+"Key-Md5") != base64.StdEncoding.EncodeToString(sum[:]) {
				t.Errorf("%s: %s*: %v", kind, p, h)
			}
		}
		makes := slices.Contains([]string{"PUT", "begin", "copy"}, kind)
		if tags := h.Get("X-Amz-Tagging"); makes != (tags == "cost+centre=7%2Fa&team=db") {
			t.Errorf("%s: tags %q", kind, tags)
		}
	}
	if d := heard.heard["copy"].Get("X-Amz-Tagging-Directive"); d != "REPLACE" {
		t.Errorf("the tags of a copy: %q", d)
	}
}

// TestCustomerKeyMistakes: one line that names the option, and nothing of the key.
func TestCustomerKeyMistakes(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"short": "c2hvcnQ=", "raw": strings.Repeat("\x01", 32), "good": base64.StdEncoding.EncodeToString(storetest.Bytes(32, 1))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for uri, says := range map[string]string{
		"file://relative/x":        "an absolute path",
		"file://" + dir + "/no":    "no such file",
		"file://" + dir:            "is a directory",
		"file://" + dir + "/raw":   "32 bytes in base64",
		"file://" + dir + "/short": "32 bytes in base64",
		"file://" + dir + "/good":  "for all to read",
	} {
		o := cloud(t, "aws_sse_customer_key = "+uri+"\nholdfast_endpoint_url = http://127.0.0.1:1\n")
		_, err := s3.Open(t.Context(), objstore.Location{Provider: objstore.S3, Bucket: "bucket"}, o, &objstore.Policy{})
		if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "aws_sse_customer_key") || fault.HintOf(err) == "" {
			t.Errorf("%s: %v (%s)", uri, err, fault.HintOf(err))
		}
	}
}
