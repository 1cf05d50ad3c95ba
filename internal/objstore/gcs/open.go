package gcs

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

const (
	scope = "https://www.googleapis.com/auth/devstorage.read_write"
	// universeVariable names another universe than Google's public one.
	universeVariable = "GOOGLE_CLOUD_UNIVERSE_DOMAIN"
	// tokenTime bounds the fetching of a token, which heeds no cancellation.
	tokenTime = 30 * time.Second
	// emulatorVariable names a server that asks for no credentials.
	emulatorVariable = "STORAGE_EMULATOR_HOST"
)

// Store is a prefix of a bucket.
type Store struct {
	client  *http.Client
	at      objstore.Location
	policy  *objstore.Policy
	options config.CloudOptions
	base    string  // of all URLs
	tokens  *tokens // nil: none are needed
}

var (
	_ objstore.Store     = (*Store)(nil)
	_ objstore.Levels    = (*Store)(nil)
	_ objstore.Parts     = (*Store)(nil)
	_ objstore.Copier    = (*Store)(nil)
	_ objstore.Locker    = (*Store)(nil)
	_ objstore.Multipart = (*Store)(nil)
)

// Open prepares a store; it asks it for nothing. Credentials are the application
// default ones, looked for at the first request and fetched anew when they expire.
func Open(at objstore.Location, o config.CloudOptions, p *objstore.Policy) (*Store, error) {
	s := &Store{at: at, policy: p, options: o, client: p.Client(http.DefaultTransport.(*http.Transport).Clone(), 0)}
	universe := os.Getenv(universeVariable)
	s.tokens = &tokens{universe: universe, client: &http.Client{Timeout: tokenTime}}
	switch emulator := os.Getenv(emulatorVariable); {
	case o.HoldfastEndpointURL != "":
		s.base = o.HoldfastEndpointURL
	case emulator != "":
		s.tokens = nil
		if s.base = emulator; !strings.Contains(emulator, "://") {
			s.base = "http://" + emulator
		}
	case universe != "":
		s.base = "https://storage." + universe
	default:
		s.base = "https://storage.googleapis.com"
	}
	if err := objstore.CheckEndpoint(s.base); err != nil {
		return nil, err
	}
	s.base = strings.TrimSuffix(s.base, "/")
	return s, nil
}

// tokens are the credentials of all requests of a store.
type tokens struct {
	universe string
	client   *http.Client
	mu       sync.Mutex
	source   oauth2.TokenSource
}

// get is a token that has not expired.
func (t *tokens) get(ctx context.Context) (*oauth2.Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.source == nil {
		// The library keeps the context for when the token expires.
		keep := context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, t.client)
		found, err := google.FindDefaultCredentialsWithParams(keep, google.CredentialsParams{Scopes: []string{scope}, UniverseDomain: t.universe})
		if err != nil {
			return nil, noCredentials(err)
		}
		t.source = found.TokenSource
	}
	token, err := t.source.Token()
	if err != nil {
		return nil, refused(err)
	}
	return token, nil
}

// forget has the next request look for credentials again: they may have been replaced.
func (t *tokens) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.source = nil
}

const credentialsHint = "run gcloud auth application-default login as the user that runs holdfast, name a file with credentials in GOOGLE_APPLICATION_CREDENTIALS, or give this host a service account"

// noCredentials: none were found, or their file cannot be understood. The library repeats no secret of it.
func noCredentials(err error) error {
	return fault.New(fault.Permission, "find", "credentials for Google Cloud Storage", "%w", innermost(err)).WithHint("%s", credentialsHint)
}

// refused is an error of the service that turns credentials into tokens. What it says is not repeated,
// for it may hold what it was sent.
func refused(err error) error {
	const what = "a token for Google Cloud Storage"
	var answer *oauth2.RetrieveError
	var at *url.Error
	switch {
	case errors.As(err, &answer) && answer.Response != nil && (answer.Response.StatusCode >= 500 || answer.Response.StatusCode == http.StatusTooManyRequests):
		return fault.New(fault.Connection, "fetch", what, "the service of tokens is busy or failing (%d)", answer.Response.StatusCode).
			WithHint("Holdfast tries again by itself")
	case errors.As(err, &answer):
		return fault.New(fault.Permission, "fetch", what, "the credentials are refused (%s)", answer.ErrorCode).WithHint("%s", credentialsHint)
	case errors.As(err, &at):
		return objstore.Network("fetch", what, "the service of tokens", at.Err)
	}
	return fault.New(fault.Permission, "fetch", what, "%w", innermost(err)).WithHint("%s", credentialsHint)
}

func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
