// Package googletoken finds Google's application default credentials and keeps the
// tokens that they yield, for whoever speaks to a service of Google. It asks no
// service but that of tokens, and what that says is repeated nowhere.
package googletoken

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// UniverseVariable names another universe than Google's public one.
const UniverseVariable = "GOOGLE_CLOUD_UNIVERSE_DOMAIN"

// tokenTime bounds the fetching of a token, which heeds no cancellation.
const tokenTime = 30 * time.Second

// Source has the tokens of all requests to a service.
type Source struct {
	For   string // the service, for messages
	Scope string

	mu     sync.Mutex
	source oauth2.TokenSource
}

// Get is a token that has not expired.
func (t *Source) Get(ctx context.Context) (*oauth2.Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.source == nil {
		// The library keeps the context for when the token expires.
		keep := context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, &http.Client{Timeout: tokenTime})
		found, err := google.FindDefaultCredentialsWithParams(keep, google.CredentialsParams{Scopes: []string{t.Scope}, UniverseDomain: os.Getenv(UniverseVariable)})
		if err != nil {
			return nil, t.none(err)
		}
		t.source = found.TokenSource
	}
	token, err := t.source.Token()
	if err != nil {
		return nil, t.refused(err)
	}
	return token, nil
}

// Forget has the next request look for credentials again: they may have been replaced.
func (t *Source) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.source = nil
}

// Hint is the cure when credentials are missing or refused.
const Hint = "run gcloud auth application-default login as the user that runs holdfast, name a file with credentials in GOOGLE_APPLICATION_CREDENTIALS, or give this host a service account"

// none: none were found, or their file cannot be understood. The library repeats no secret of it.
func (t *Source) none(err error) error {
	return fault.New(fault.Permission, "find", "credentials for "+t.For, "%w", innermost(err)).WithHint("%s", Hint)
}

// refused is an error of the service that turns credentials into tokens. What it says is not repeated,
// for it may hold what it was sent.
func (t *Source) refused(err error) error {
	what := "a token for " + t.For
	var answer *oauth2.RetrieveError
	var at *url.Error
	switch {
	case errors.As(err, &answer) && answer.Response != nil && (answer.Response.StatusCode >= 500 || answer.Response.StatusCode == http.StatusTooManyRequests):
		return fault.New(fault.Connection, "fetch", what, "the service of tokens is busy or failing (%d)", answer.Response.StatusCode).
			WithHint("Holdfast tries again by itself")
	case errors.As(err, &answer):
		return fault.New(fault.Permission, "fetch", what, "the credentials are refused (%s)", answer.ErrorCode).WithHint("%s", Hint)
	case errors.As(err, &at):
		return objstore.Network("fetch", what, "the service of tokens", at.Err)
	}
	return fault.New(fault.Permission, "fetch", what, "%w", innermost(err)).WithHint("%s", Hint)
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
