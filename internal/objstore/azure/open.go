package azure

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Store is a prefix of a container.
type Store struct {
	client  *http.Client
	at      objstore.Location
	policy  *objstore.Policy
	options config.CloudOptions
	base    string // URL of the account
	access  credential
}

var (
	_ objstore.Store       = (*Store)(nil)
	_ objstore.Levels      = (*Store)(nil)
	_ objstore.Parts       = (*Store)(nil)
	_ objstore.Copier      = (*Store)(nil)
	_ objstore.RangeCopier = (*Store)(nil)
	_ objstore.Locker      = (*Store)(nil)
)

const (
	connectionVariable = "AZURE_STORAGE_CONNECTION_STRING"
	sasVariable        = "AZURE_STORAGE_SAS_TOKEN"
	keyVariable        = "AZURE_STORAGE_KEY"
)

// Open prepares a store; it asks it for nothing. Credentials are looked for in Barman's order:
// azure_credential, then the variables with a connection string, a signature, a key, then the vendor's
// default chain. Tokens are fetched anew when they expire.
func Open(at objstore.Location, o config.CloudOptions, p *objstore.Policy) (*Store, error) {
	s := &Store{at: at, policy: p, options: o, base: "https://" + at.Host, client: p.Client(nil, 0)}
	if o.HoldfastEndpointURL != "" {
		return nil, fault.New(fault.Config, "open", at.String(), "an endpoint URL is nothing for Azure").
			WithHint("remove holdfast_endpoint_url; the URL of the store, or BlobEndpoint in %s, has the address", connectionVariable)
	}
	text := os.Getenv(connectionVariable)
	switch {
	case at.Emulated() && (text == "" || o.AzureCredential != ""):
		return nil, fault.New(fault.Config, "open", at.String(), "a host that is not Azure's needs a connection string").
			WithHint("set %s, and remove azure_credential; or use https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH", connectionVariable)
	case o.AzureCredential != "":
		s.access = newToken(o.AzureCredential)
	case text != "":
		if err := s.connect(text); err != nil {
			return nil, err
		}
	case os.Getenv(sasVariable) != "":
		token, err := parseSAS(os.Getenv(sasVariable))
		if err != nil {
			return nil, err
		}
		s.access = token
	case os.Getenv(keyVariable) != "":
		key, err := parseKey(keyVariable, at.Account(), os.Getenv(keyVariable))
		if err != nil {
			return nil, err
		}
		s.access = key
	default:
		s.access = newToken("")
	}
	return s, nil
}

func badVariable(name, format string, args ...any) error {
	return fault.New(fault.Config, "read", name, format, args...).WithHint("copy it anew from the storage account: Security + networking, Access keys or Shared access signature")
}

func parseSAS(text string) (sas, error) {
	q, err := url.ParseQuery(strings.TrimPrefix(strings.TrimSpace(text), "?"))
	if err != nil || q.Get("sig") == "" {
		return nil, badVariable(sasVariable, "it is not a shared access signature")
	}
	return sas(q), nil
}

func parseKey(name, account, text string) (sharedKey, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) == 0 {
		return sharedKey{}, badVariable(name, "the account's key in it is not base64")
	}
	return sharedKey{account, key}, nil
}

// connect takes what a connection string has: where the account is, and a key or a signature.
func (s *Store) connect(text string) error {
	has := map[string]string{}
	for field := range strings.SplitSeq(text, ";") {
		name, value, is := strings.Cut(strings.TrimSpace(field), "=")
		if !is && name != "" {
			return badVariable(connectionVariable, "it is not NAME=VALUE pairs separated by semicolons")
		}
		has[strings.ToLower(name)] = value
	}
	account := has["accountname"]
	if account != "" && account != s.at.Account() {
		return fault.New(fault.Config, "open", s.at.String(), "the connection string is that of the account %s", account).WithHint("correct the URL, or %s", connectionVariable)
	}
	switch endpoint, suffix := has["blobendpoint"], has["endpointsuffix"]; {
	case endpoint != "":
		if u, err := url.Parse(endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
			return badVariable(connectionVariable, "its BlobEndpoint is no URL")
		}
		s.base = strings.TrimSuffix(endpoint, "/")
	case s.at.Emulated():
		s.base = "http://" + s.at.Host
	case suffix != "":
		s.base = "https://" + s.at.Account() + ".blob." + suffix
	}
	var err error
	switch {
	case has["accountkey"] != "":
		s.access, err = parseKey(connectionVariable, s.at.Account(), has["accountkey"])
	case has["sharedaccesssignature"] != "":
		s.access, err = parseSAS(has["sharedaccesssignature"])
	default:
		err = badVariable(connectionVariable, "it has neither AccountKey nor SharedAccessSignature")
	}
	return err
}

// address is the URL of a blob by its name in the container, "" for the container itself.
func (s *Store) address(name string) string {
	path := s.base + "/" + url.PathEscape(s.at.Bucket)
	if name == "" {
		return path
	}
	elements := strings.Split(name, "/")
	for i := range elements {
		elements[i] = url.PathEscape(elements[i])
	}
	return path + "/" + strings.Join(elements, "/")
}
