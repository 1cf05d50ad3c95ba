package objstore

import (
	"strings"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/lazyregexp"
)

// Provider is a kind of store.
type Provider string

// The providers.
const (
	S3    Provider = "s3"
	GCS   Provider = "gcs"
	Azure Provider = "azure"
	File  Provider = "file"
)

// Location is a place in a store.
type Location struct {
	Provider Provider
	Host     string // Azure: ACCOUNT.blob.core.windows.net, or HOST:PORT/ACCOUNT of an emulator
	Bucket   string // bucket, access point, container; for file the directory
	Prefix   string // of all keys, without slashes at its ends; "" for file
}

// Account is the name of the Azure storage account.
func (l Location) Account() string {
	if _, account, is := strings.Cut(l.Host, "/"); is {
		return account
	}
	account, _, _ := strings.Cut(l.Host, ".")
	return account
}

// Emulated reports whether it is in a server that is not Azure's own.
func (l Location) Emulated() bool { return strings.Contains(l.Host, "/") }

// Key is the name in the store of a key below the location.
func (l Location) Key(key string) string {
	if l.Prefix == "" {
		return key
	}
	return l.Prefix + "/" + key
}

// String is a URL of the location; a parser makes the same location of it.
func (l Location) String() string {
	path := ""
	if l.Prefix != "" {
		path = "/" + l.Prefix
	}
	switch l.Provider {
	case S3:
		return "s3://" + l.Bucket + path
	case GCS:
		return "gs://" + l.Bucket + path
	case Azure:
		scheme := "https"
		if l.Emulated() {
			scheme = "http"
		}
		return scheme + "://" + l.Host + "/" + l.Bucket + path
	}
	return "file://" + l.Bucket
}

// arnForm is a bucket that is an access point, of S3 or of an outpost.
var arnForm = lazyregexp.New(`^arn:aws[a-z-]*:(?:s3:[a-z0-9-]*:[0-9]*:accesspoint[/:][A-Za-z0-9.-]+|s3-outposts:[a-z0-9-]+:[0-9]+:outpost[/:][A-Za-z0-9-]+[/:]accesspoint[/:][A-Za-z0-9-]+)(?:/|$)`)

// schemeForm is one that is short enough to be no secret (RFC 3986, section 3.1).
var schemeForm = lazyregexp.New(`^[a-z][a-z0-9+.-]{0,11}$`)

// Hosts of Azure, in all its clouds, and of an emulator, whose URLs have the account in the path.
var (
	azureForm   = lazyregexp.New(`^[a-z0-9-]+(?:\.z[0-9]+)?\.blob\.(?:core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)|storage\.azure\.net)$`)
	loopback    = lazyregexp.New(`^(?:127\.[0-9.]+|localhost|\[::1\]):[0-9]+$`)
	accountForm = lazyregexp.New(`^[a-z0-9]+$`)
)

const (
	gcsHost     = "storage.googleapis.com"
	consoleHost = "console.cloud.google.com"
	consolePath = "storage/browser/"
	knownURLs   = "use s3://BUCKET/PATH, gs://BUCKET/PATH, https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH or file:///DIRECTORY"
)

// ParseURL reads the URL of a store as Barman does: S3 (buckets and access points),
// Google Cloud Storage, Azure Blob Storage; and directories. The path is taken as it
// stands, without decoding. It never repeats what could be a secret.
func ParseURL(text string) (Location, error) {
	refuse := func(why, hint string) (Location, error) {
		return Location{}, fault.New(fault.Usage, "read", "the URL of the store", "%s", why).WithHint("%s", hint)
	}
	scheme, rest, is := strings.Cut(text, "://")
	if !is {
		return refuse("it has no scheme", knownURLs)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }) {
		return refuse("it has control characters, or is not UTF-8", knownURLs)
	}
	var l Location
	switch scheme = strings.ToLower(scheme); scheme {
	case "s3":
		l.Provider = S3
		if arn := arnForm.FindString(rest); arn != "" {
			l.Bucket, l.Prefix = strings.TrimSuffix(arn, "/"), rest[len(arn):]
			break
		}
		if strings.HasPrefix(rest, "arn:") {
			return refuse("its ARN is none of an access point", "use s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/PATH")
		}
		l.Bucket, l.Prefix, _ = strings.Cut(rest, "/")
	case "gs":
		l.Provider = GCS
		l.Bucket, l.Prefix, _ = strings.Cut(rest, "/")
	case "file":
		return parseFile(rest)
	case "http", "https":
		if strings.ContainsAny(rest, "?#") {
			return refuse("it has a query or a fragment", "leave out what follows the question mark or the number sign; a SAS token belongs into AZURE_STORAGE_SAS_TOKEN")
		}
		host, path, _ := strings.Cut(rest, "/")
		if i := strings.LastIndex(host, "@"); i >= 0 {
			return refuse("it has a user", "leave out the user and the @; credentials come from the provider's own files and variables")
		}
		host = strings.ToLower(host)
		switch {
		case scheme == "https" && azureForm.MatchString(host):
			l.Provider, l.Host = Azure, host
		case scheme == "http" && loopback.MatchString(host) && !strings.HasPrefix(path, "/") && strings.Contains(path, "/"):
			var account string
			account, path, _ = strings.Cut(path, "/")
			if !accountForm.MatchString(account) {
				return refuse("its host is none of a store that is known", knownURLs)
			}
			l.Provider, l.Host = Azure, host+"/"+account
		case scheme == "https" && host == gcsHost:
			l.Provider = GCS
		case scheme == "https" && host == consoleHost && strings.HasPrefix(path, consolePath):
			l.Provider, path = GCS, strings.TrimPrefix(path, consolePath)
		default:
			return refuse("its host is none of a store that is known", knownURLs+"; for a server of your own that speaks S3, s3:// with holdfast_endpoint_url or --endpoint-url")
		}
		l.Bucket, l.Prefix, _ = strings.Cut(path, "/")
	default:
		if !schemeForm.MatchString(scheme) {
			return refuse("stores of its kind are not known", knownURLs)
		}
		return refuse("stores of the kind "+scheme+" are not known", knownURLs)
	}
	if strings.ContainsAny(l.Bucket, "@:?#") && !strings.HasPrefix(l.Bucket, "arn:") {
		return refuse("the name of its bucket has one of @ : ? #", "give the bucket alone; credentials come from the provider's own files and variables")
	}
	if l.Bucket == "" || strings.ContainsAny(l.Bucket, ` "'<>\%`) || l.Bucket == "." || l.Bucket == ".." {
		return refuse("it names no bucket", knownURLs)
	}
	l.Prefix = strings.Trim(l.Prefix, "/")
	if l.Prefix != "" {
		if err := CheckKey(l.Prefix); err != nil {
			return refuse("its path has an empty element, . or .., or is too long", "correct the path")
		}
	}
	return l, nil
}

// parseFile reads what follows file://.
func parseFile(rest string) (Location, error) {
	refuse := func(why string) (Location, error) {
		return Location{}, fault.New(fault.Usage, "read", "the URL of the store", "%s", why).
			WithHint("use file:///DIRECTORY, with three slashes and an absolute path")
	}
	rest = strings.TrimPrefix(rest, "localhost")
	if !strings.HasPrefix(rest, "/") {
		return refuse("it names a host, or no absolute directory")
	}
	dir := "/" + strings.Trim(rest, "/")
	if dir == "/" {
		return refuse("it names the root directory")
	}
	if err := CheckKey(dir[1:]); err != nil {
		return refuse("its path has an empty element, . or .., or is too long")
	}
	return Location{Provider: File, Bucket: dir}, nil
}

// CheckEndpoint refuses what is no address of a server.
func CheckEndpoint(text string) error {
	if config.ValidEndpoint(text) {
		return nil
	}
	return fault.New(fault.Config, "read", "the endpoint URL", "it is not http://HOST:PORT or https://HOST:PORT").
		WithHint("correct holdfast_endpoint_url or --endpoint-url; it holds neither credentials nor a query")
}
