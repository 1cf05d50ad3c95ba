package objstore_test

import (
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

var locations = []struct {
	url  string
	want objstore.Location // the zero value: refused
	says string            // in the refusal
}{
	{url: "s3://bucket", want: objstore.Location{Provider: objstore.S3, Bucket: "bucket"}},
	{url: "S3://bucket/", want: objstore.Location{Provider: objstore.S3, Bucket: "bucket"}},
	{url: "s3://bucket/a/b c/", want: objstore.Location{Provider: objstore.S3, Bucket: "bucket", Prefix: "a/b c"}},
	{url: "s3://my.bucket/a%20b", want: objstore.Location{Provider: objstore.S3, Bucket: "my.bucket", Prefix: "a%20b"}},
	{url: "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/name/a/b",
		want: objstore.Location{Provider: objstore.S3, Bucket: "arn:aws:s3:eu-west-1:123456789012:accesspoint/name", Prefix: "a/b"}},
	{url: "s3://arn:aws:s3::123456789012:accesspoint:multi.mrap",
		want: objstore.Location{Provider: objstore.S3, Bucket: "arn:aws:s3::123456789012:accesspoint:multi.mrap"}},
	{url: "s3://arn:aws-cn:s3-outposts:cn-north-1:123456789012:outpost/op-1/accesspoint/name/x",
		want: objstore.Location{Provider: objstore.S3, Bucket: "arn:aws-cn:s3-outposts:cn-north-1:123456789012:outpost/op-1/accesspoint/name", Prefix: "x"}},
	{url: "gs://bucket/path", want: objstore.Location{Provider: objstore.GCS, Bucket: "bucket", Prefix: "path"}},
	{url: "https://storage.googleapis.com/bucket/path/x", want: objstore.Location{Provider: objstore.GCS, Bucket: "bucket", Prefix: "path/x"}},
	{url: "https://console.cloud.google.com/storage/browser/bucket/path", want: objstore.Location{Provider: objstore.GCS, Bucket: "bucket", Prefix: "path"}},
	{url: "https://acct.blob.core.windows.net/container/a/b",
		want: objstore.Location{Provider: objstore.Azure, Host: "acct.blob.core.windows.net", Bucket: "container", Prefix: "a/b"}},
	{url: "https://ACCT.Blob.Core.Windows.Net/c", want: objstore.Location{Provider: objstore.Azure, Host: "acct.blob.core.windows.net", Bucket: "c"}},
	{url: "https://acct.blob.core.chinacloudapi.cn/c/a", want: objstore.Location{Provider: objstore.Azure, Host: "acct.blob.core.chinacloudapi.cn", Bucket: "c", Prefix: "a"}},
	{url: "https://acct.z12.blob.storage.azure.net/c", want: objstore.Location{Provider: objstore.Azure, Host: "acct.z12.blob.storage.azure.net", Bucket: "c"}},
	{url: "http://127.0.0.1:10000/devstoreaccount1/c/a b", want: objstore.Location{Provider: objstore.Azure, Host: "127.0.0.1:10000/devstoreaccount1", Bucket: "c", Prefix: "a b"}},
	{url: "file:///srv/backups/", want: objstore.Location{Provider: objstore.File, Bucket: "/srv/backups"}},
	{url: "file://localhost/srv/x", want: objstore.Location{Provider: objstore.File, Bucket: "/srv/x"}},

	{url: "", says: "no scheme"},
	{url: "bucket/path", says: "no scheme"},
	{url: "ftp://host/x", says: "of the kind ftp are not known"},
	{url: "s3cret-and-long-enough-for-one://x", says: "of its kind are not known"},
	{url: "s3://", says: "names no bucket"},
	{url: "s3:///path", says: "names no bucket"},
	{url: "s3://..", says: "names no bucket"},
	{url: "s3://key:s3cret@bucket/x", says: "bucket has one of"},
	{url: "s3://bucket?x=s3cret", says: "bucket has one of"},
	{url: "s3://arn:aws:iam::1:role/x", says: "ARN"},
	{url: "s3://bucket/a//b", says: "empty element"},
	{url: "s3://bucket/a/../b", says: "empty element"},
	{url: "s3://bucket/a\nb", says: "control characters"},
	{url: "gs://bucket/" + strings.Repeat("x", 1025), says: "too long"},
	{url: "https://example.com/x", says: "host is none"},
	{url: "http://127.0.0.1:10000/container", says: "host is none"},
	{url: "http://127.0.0.1:10000/Not/An/Account", says: "host is none"},
	{url: "http://127.0.0.1:10000/account/", says: "names no bucket"},
	{url: "http://example.com:10000/account/container", says: "host is none"},
	{url: "https://acct.blob.core.example.com/c", says: "host is none"},
	{url: "https://blob.core.windows.net/x", says: "host is none"},
	{url: "http://acct.blob.core.windows.net/x", says: "host is none"},
	{url: "https://acct.blob.core.windows.net", says: "names no bucket"},
	{url: "https://acct.blob.core.windows.net/c?sig=s3cret", says: "query"},
	{url: "https://me:s3cret@acct.blob.core.windows.net/c", says: "has a user"},
	{url: "file://host/x", says: "host"},
	{url: "file://relative", says: "host"},
	{url: "file:///", says: "root"},
	{url: "file:///a/../b", says: "empty element"},
}

func TestParseURL(t *testing.T) {
	for _, c := range locations {
		got, err := objstore.ParseURL(c.url)
		if got != c.want || (err == nil) != (c.says == "") {
			t.Errorf("%s: got %+v, %v", c.url, got, err)
		}
		if err != nil && (!strings.Contains(err.Error(), c.says) || fault.HintOf(err) == "" || !fault.Is(err, fault.Usage)) {
			t.Errorf("%s: %v (%s)", c.url, err, fault.HintOf(err))
		}
	}
}

func TestAccount(t *testing.T) {
	for url, want := range map[string]string{"https://acct.blob.core.windows.net/c": "acct", "https://acct.z12.blob.storage.azure.net/c": "acct", "http://localhost:1/acct/c": "acct"} {
		l, err := objstore.ParseURL(url)
		if err != nil || l.Account() != want || l.Emulated() != strings.HasPrefix(url, "http:") {
			t.Errorf("%s: %+v, %v", url, l, err)
		}
	}
}

// FuzzParseURL: what is accepted is read again as the same place, and what is
// refused is neither repeated nor without a remedy.
func FuzzParseURL(f *testing.F) {
	for _, c := range locations {
		f.Add(c.url)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := objstore.ParseURL(text)
		if err != nil {
			if fault.HintOf(err) == "" || strings.Contains(err.Error()+fault.HintOf(err), "\n") {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		again, err := objstore.ParseURL(l.String())
		if err != nil || again != l {
			t.Errorf("%q: %+v is written as %q and read as %+v, %v", text, l, l, again, err)
		}
		if u, known := config.ParseCloudURL(text); known && (l.Provider == objstore.File) != (u.Provider == "file") {
			t.Errorf("%q is of %s here and of %s for the configuration", text, l.Provider, u.Provider)
		}
	})
}
