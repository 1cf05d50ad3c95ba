//go:build integration

package s3_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	aws3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/s3"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
)

func open(t *testing.T, endpoint, where string, p *objstore.Policy) *s3.Store {
	t.Helper()
	at, err := objstore.ParseURL(where)
	if err != nil {
		t.Fatal(err)
	}
	s, err := s3.Open(t.Context(), at, config.CloudOptions{HoldfastEndpointURL: endpoint}, p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	g := storetest.StartGateway(t, "bucket")
	g.Setenv(t)
	storetest.Suite{
		Open: func(t *testing.T, p *objstore.Policy) objstore.Store {
			return open(t, g.URL, "s3://bucket/a b+c/ü", p)
		},
		Abilities: []string{"multipart", "copy", "range copy", "locks"},
		Keys:      2500,
		Kill:      g.Kill, Start: g.Start,
	}.Run(t)
	root := open(t, g.URL, "s3://bucket", &objstore.Policy{})
	n := 0
	for o, err := range root.List(t.Context(), "") {
		if n++; err != nil || !strings.HasPrefix(o.Key, "a b+c/ü/") {
			t.Errorf("beside the prefix: %+v, %v", o, err)
		}
	}
	if n == 0 {
		t.Error("nothing lies below the prefix")
	}
}

// TestLocks: locks are told, and respected where the option asks for it.
func TestLocks(t *testing.T) {
	g := storetest.StartGateway(t)
	g.Setenv(t)
	client := aws3.New(aws3.Options{BaseEndpoint: aws.String(g.URL), UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(storetest.AccessKey, storetest.SecretKey, "")})
	if _, err := client.CreateBucket(t.Context(), &aws3.CreateBucketInput{Bucket: aws.String("locked"), ObjectLockEnabledForBucket: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	s := open(t, g.URL, "s3://locked/x", &objstore.Policy{})
	if _, err := s.Put(t.Context(), "free", strings.NewReader("x"), objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if rule, err := s.NewLocks(t.Context()); err != nil || rule != "" {
		t.Errorf("without a rule: %q, %v", rule, err)
	}
	if _, err := s.Put(t.Context(), "locked", strings.NewReader("x"), objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutObjectRetention(t.Context(), &aws3.PutObjectRetentionInput{Bucket: aws.String("locked"), Key: aws.String("x/locked"),
		Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionModeGovernance, RetainUntilDate: aws.Time(time.Now().Add(72 * time.Hour))}}); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"free": false, "locked": true} {
		l, err := s.LockOf(t.Context(), key)
		if err != nil || l.Locked(time.Now()) != want || l.Locked(time.Now().Add(73*time.Hour)) || want && l.Mode != "GOVERNANCE" {
			t.Errorf("%s: %+v, %v", key, l, err)
		}
	}
	at, _ := objstore.ParseURL("s3://locked/x")
	careful, err := s3.Open(t.Context(), at, config.CloudOptions{HoldfastEndpointURL: g.URL, AWSCheckObjectLock: true}, &objstore.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	if err := careful.Delete(t.Context(), "free", "locked"); !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "GOVERNANCE until") {
		t.Errorf("deletion of what is locked: %v", err)
	}
	if err := careful.Delete(t.Context(), "free", "absent"); err != nil {
		t.Error(err)
	}
	if _, err := client.PutObjectLockConfiguration(t.Context(), &aws3.PutObjectLockConfigurationInput{Bucket: aws.String("locked"),
		ObjectLockConfiguration: &types.ObjectLockConfiguration{ObjectLockEnabled: types.ObjectLockEnabledEnabled,
			Rule: &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{Mode: types.ObjectLockRetentionModeGovernance, Days: aws.Int32(3)}}}}); err != nil {
		t.Fatal(err)
	}
	if rule, err := s.NewLocks(t.Context()); err != nil || rule != "GOVERNANCE for 3 days" {
		t.Errorf("with a rule: %q, %v", rule, err)
	}
}

// TestMistakes: each is answered at once, in words, with its cure.
func TestMistakes(t *testing.T) {
	g := storetest.StartGateway(t, "bucket")
	g.Setenv(t)
	for _, c := range []struct {
		name, endpoint, bucket string
		env                    map[string]string
		kind                   fault.Kind
		says, hint             string
	}{
		{name: "bucket missing", bucket: "nobody", kind: fault.Config, says: "nobody: it does not exist", hint: "create it"},
		{name: "wrong key", env: map[string]string{"AWS_ACCESS_KEY_ID": "other"}, kind: fault.Permission, says: "refuses the credentials", hint: "AWS_ACCESS_KEY_ID"},
		{name: "wrong secret", env: map[string]string{"AWS_SECRET_ACCESS_KEY": "other"}, kind: fault.Permission, says: "refuses the credentials", hint: "AWS_SECRET_ACCESS_KEY"},
		{name: "no credentials", env: map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, kind: fault.Permission, says: "credentials for S3", hint: "aws_profile"},
		{name: "wrong region", env: map[string]string{"AWS_REGION": "eu-west-1"}, kind: fault.Config, says: "not served by the region eu-west-1", hint: "aws_region"},
		{name: "no such host", endpoint: "http://nobody.invalid", kind: fault.Config, says: "no host nobody.invalid", hint: "holdfast_endpoint_url"},
		{name: "no TLS", endpoint: strings.Replace(g.URL, "http:", "https:", 1), kind: fault.Config, says: "does not speak TLS", hint: "http://"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			if c.endpoint == "" {
				c.endpoint = g.URL
			}
			if c.bucket == "" {
				c.bucket = "bucket"
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			s := open(t, c.endpoint, "s3://"+c.bucket, &objstore.Policy{Patience: time.Minute})
			check := func(op string, err error) {
				t.Helper()
				text := ""
				if err != nil {
					text = err.Error()
				}
				if !fault.Is(err, c.kind) || !strings.Contains(text, c.says) || !strings.Contains(fault.HintOf(err), c.hint) || strings.Contains(text, "\n") || len(text) > 200 {
					t.Errorf("%s: %s %v (%s)", op, fault.KindOf(err), err, fault.HintOf(err))
				}
				if strings.Contains(text+fault.HintOf(err), storetest.SecretKey) {
					t.Errorf("%s: the secret is in %v", op, err)
				}
			}
			_, err := s.Put(ctx, "x", strings.NewReader("x"), objstore.PutOptions{})
			check("put", err)
			n := 0
			for _, err := range s.List(ctx, "") {
				n++
				check("list", err)
			}
			if n != 1 {
				t.Errorf("the list has %d ends", n)
			}
		})
	}
}

// TestFaults: a server between us and the store does what networks and stores do.
func TestFaults(t *testing.T) {
	g := storetest.StartGateway(t, "bucket")
	g.Setenv(t)
	to, err := url.Parse(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }}
	var mu sync.Mutex
	var bend func(w http.ResponseWriter, r *http.Request) bool // true: answered
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		now := bend
		mu.Unlock()
		if now == nil || !now(w, r) {
			forward.ServeHTTP(w, r)
		}
	}))
	defer proxy.Close()
	data := storetest.Bytes(1<<20, 1)
	busy := func(times int, status int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			if times--; times < 0 {
				return false
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<Error><Code>SlowDown</Code><Message>please</Message></Error>")
			return true
		}
	}
	store := func(p *objstore.Policy) *s3.Store { return open(t, proxy.URL, "s3://bucket", p) }
	put := func(p *objstore.Policy, key string, o objstore.PutOptions) error {
		_, err := store(p).Put(t.Context(), key, bytes.NewReader(data), o)
		return err
	}

	p := &objstore.Policy{Patience: 20 * time.Second}
	bend = busy(3, http.StatusServiceUnavailable)
	if err := put(p, "busy", objstore.PutOptions{}); err != nil || p.Counts.Retries.Load() != 3 {
		t.Errorf("busy three times: %v after %d retries", err, p.Counts.Retries.Load())
	}
	bend = busy(1000, http.StatusServiceUnavailable)
	if err := put(&objstore.Policy{Patience: time.Second}, "busy", objstore.PutOptions{}); !fault.Is(err, fault.Connection) || !strings.Contains(err.Error(), "give up after 1s") || !strings.Contains(err.Error(), "SlowDown") {
		t.Errorf("busy for ever: %v", err)
	}

	// The store has carried it out, but its answer is lost.
	lost := true
	bend = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && lost {
			lost = false
			forward.ServeHTTP(httptest.NewRecorder(), r)
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		return false
	}
	if err := put(p, "lost", objstore.PutOptions{IfAbsent: true}); err != nil || lost {
		t.Errorf("a lost answer: %v", err)
	}
	lost = true
	data[0]++
	if err := put(p, "lost", objstore.PutOptions{IfAbsent: true}); !fault.Is(err, fault.Conflict) {
		t.Errorf("other content after a failure: %v", err)
	}

	lost = true
	bend = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") && lost {
			lost = false
			forward.ServeHTTP(httptest.NewRecorder(), r)
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		return false
	}
	long := storetest.Bytes(objstore.MinPart+7, 2)
	if _, err := store(p).Put(t.Context(), "long", bytes.NewReader(long), objstore.PutOptions{IfAbsent: true}); err != nil || lost {
		t.Errorf("a lost answer to the completion: %v", err)
	}

	// The answer breaks off in the middle, each time.
	bend = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet {
			return false
		}
		rec := httptest.NewRecorder()
		forward.ServeHTTP(rec, r)
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(rec.Code)
		body := rec.Body.Bytes()
		_, _ = w.Write(body[:min(len(body), 300<<10)])
		return true
	}
	data[0]--
	in, _, err := store(p).Get(t.Context(), "busy", objstore.Whole())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(in); err != nil || !bytes.Equal(got, data) {
		t.Errorf("cut answers: %d bytes, %v", len(got), err)
	}
	in.Close()

	// Silence.
	silent := make(chan bool)
	defer close(silent)
	bend = func(http.ResponseWriter, *http.Request) bool { <-silent; return true }
	at, _ := objstore.ParseURL("s3://bucket")
	quiet, err := s3.Open(t.Context(), at, config.CloudOptions{HoldfastEndpointURL: proxy.URL, AWSReadTimeout: time.Second}, &objstore.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := quiet.Stat(t.Context(), "busy"); !fault.Is(err, fault.Connection) || !strings.Contains(err.Error(), "aws_read_timeout") || time.Since(began) > 5*time.Second {
		t.Errorf("silence: %v after %v", err, time.Since(began))
	}

	// What the store keeps has changed behind its back.
	mu.Lock()
	bend = nil
	mu.Unlock()
	name := filepath.Join(g.Data("bucket"), "busy")
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{data[5000] + 1}, 5000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	in, _, err = store(p).Get(t.Context(), "busy", objstore.Whole())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := io.Copy(io.Discard, in); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a flipped bit: %v", err)
	}
}

// TestTLS: over TLS bodies are signed only when nothing else protects them from whoever ends the
// TLS, AWS_CA_BUNDLE counts, and S3 is asked to encrypt.
func TestTLS(t *testing.T) {
	g := storetest.StartGateway(t, "bucket")
	g.Setenv(t)
	to, err := url.Parse(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }}
	var mu sync.Mutex
	asked := map[string]int{}
	damaged := "none" // is the number of a part
	proxy := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if r.URL.Query().Get("partNumber") == damaged {
			body, _ := io.ReadAll(r.Body)
			body[len(body)/2] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(body))
			damaged = "none"
		}
		for _, name := range []string{"X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", "X-Amz-Content-Sha256"} {
			asked[r.Header.Get(name)]++
		}
		mu.Unlock()
		forward.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	where, _ := objstore.ParseURL("s3://bucket/tls")
	o := config.CloudOptions{HoldfastEndpointURL: proxy.URL, AWSEncryption: "aws:kms", AWSSSEKMSKeyID: "our-key"}
	try := func() error {
		s, err := s3.Open(t.Context(), where, o, &objstore.Policy{})
		if err != nil {
			return err
		}
		for _, size := range []int{100, objstore.MinPart + 5} {
			data := storetest.Bytes(size, 1)
			if _, err := s.Put(t.Context(), "x", bytes.NewReader(data), objstore.PutOptions{}); err != nil {
				return err
			}
			in, _, err := s.Get(t.Context(), "x", objstore.Whole())
			if err != nil {
				return err
			}
			got, err := io.ReadAll(in)
			in.Close()
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		}
		_, err = s.Copy(t.Context(), "x", "y")
		return err
	}
	proxy.Config.ErrorLog = log.New(io.Discard, "", 0) // the handshake that is to fail
	if err := try(); !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), "certificate of "+proxy.URL) || !strings.Contains(fault.HintOf(err), "authority") {
		t.Errorf("an unknown certificate: %v (%s)", err, fault.HintOf(err))
	}
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	if err := try(); err != nil {
		t.Fatal(err)
	}
	if asked["aws:kms"] != 3 || asked["our-key"] != 3 || asked["UNSIGNED-PAYLOAD"] != 3 {
		t.Errorf("headers: %v", asked)
	}
	s, err := s3.Open(t.Context(), where, o, &objstore.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	for _, copies := range []bool{false, true} {
		begin := s.Begin
		if copies {
			begin = s.BeginCopy
		}
		u, err := begin(t.Context(), "parts")
		if err != nil {
			t.Fatal(err)
		}
		data := storetest.Bytes(1000, 2)
		mu.Lock()
		damaged = "1"
		mu.Unlock()
		if _, err := s.PutPart(t.Context(), u, 1, data); !fault.Is(err, fault.Corrupt) {
			t.Errorf("copies: %v: a part that was damaged on its way: %v", copies, err)
		}
		p, err := s.PutPart(t.Context(), u, 1, data)
		if err == nil {
			_, err = s.Complete(t.Context(), u, []objstore.Part{p}, objstore.PutOptions{})
		}
		if err != nil {
			t.Errorf("copies: %v: sent again: %v", copies, err)
		}
	}
}

// TestChecksumsOfOthers: what others have put with another checksum than ours, or with none, is verified too.
func TestChecksumsOfOthers(t *testing.T) {
	g := storetest.StartGateway(t, "bucket")
	g.Setenv(t)
	client := aws3.New(aws3.Options{BaseEndpoint: aws.String(g.URL), UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(storetest.AccessKey, storetest.SecretKey, "")})
	s := open(t, g.URL, "s3://bucket", &objstore.Policy{})
	data := storetest.Bytes(100000, 1)
	for _, kind := range []types.ChecksumAlgorithm{types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc64nvme, types.ChecksumAlgorithmSha256, types.ChecksumAlgorithmSha1, types.ChecksumAlgorithmCrc32c, "none"} {
		key := string(kind)
		in := &aws3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String(key), Body: bytes.NewReader(data), ChecksumAlgorithm: kind}
		if kind == "none" {
			in.ChecksumAlgorithm = ""
		}
		if _, err := client.PutObject(t.Context(), in); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		read := func() (objstore.Object, error) {
			r, o, err := s.Get(t.Context(), key, objstore.Whole())
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			_, err = io.Copy(io.Discard, r)
			return o, err
		}
		if o, err := read(); err != nil || o.CRC32C == nil && o.Other == nil {
			t.Errorf("%s: %+v, %v", kind, o, err)
		}
		if r, _, err := s.Get(t.Context(), key, objstore.Range{Offset: 5, Length: 10}); err != nil {
			t.Errorf("%s: %v", kind, err)
		} else if part, err := io.ReadAll(r); err != nil || !bytes.Equal(part, data[5:15]) {
			t.Errorf("%s: %q, %v", kind, part, err)
		}
		damaged := bytes.Clone(data)
		damaged[77777] ^= 1
		if err := os.WriteFile(filepath.Join(g.Data("bucket"), key), damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := read(); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: a flipped bit: %v", kind, err)
		}
	}
}
