// Package entra has the credentials of Microsoft Entra ID that the option
// azure_credential names, for whoever speaks to a service of Azure. It asks no
// service but that of tokens, and what that says is repeated nowhere.
package entra

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Source has the tokens of all requests to a service.
type Source struct {
	Kind string // of azure_credential; "" is the vendor's default chain
	For  string // the service, for messages
	Hint string // the cure when there are no credentials, or they are refused

	mu    sync.Mutex
	token azcore.TokenCredential
}

// Get is a token that has not expired.
func (e *Source) Get(ctx context.Context, o policy.TokenRequestOptions) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.token == nil {
		var err error
		switch e.Kind {
		case "azure-cli":
			e.token, err = azidentity.NewAzureCLICredential(nil)
		case "managed-identity":
			e.token, err = azidentity.NewManagedIdentityCredential(nil)
		default:
			e.token, err = azidentity.NewDefaultAzureCredential(nil)
		}
		if err != nil {
			e.token = nil
			return "", e.refused(ctx, err)
		}
	}
	token, err := e.token.GetToken(ctx, o)
	if err != nil {
		return "", e.refused(ctx, err)
	}
	return token.Token, nil
}

// Forget has the next request look for credentials again: they may have been replaced.
func (e *Source) Forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.token = nil
}

// refused is why there is no token. What a service says is not repeated, for it may hold what it was sent.
func (e *Source) refused(ctx context.Context, err error) error {
	what := "a token for " + e.For
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var answer *azidentity.AuthenticationFailedError
	if errors.As(err, &answer) && answer.RawResponse != nil {
		status := answer.RawResponse.StatusCode
		if status == http.StatusTooManyRequests || status >= 500 {
			return fault.New(fault.Connection, "fetch", what, "the service of tokens is busy or failing (%d)", status).WithHint("Holdfast tries again by itself")
		}
		return fault.New(fault.Permission, "fetch", what, "the credentials are refused (%d)", status).WithHint("%s", e.Hint)
	}
	var at *url.Error
	if errors.As(err, &at) {
		return objstore.Network("fetch", what, "the service of tokens", at.Err)
	}
	return fault.New(fault.Permission, "find", "credentials for "+e.For, "azure_credential = %s yields none", cmp.Or(e.Kind, "default")).WithHint("%s", e.Hint)
}
