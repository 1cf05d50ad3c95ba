package gcp

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/api/googleapi"

	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// TestThrottledForAMinute: that is waited for.
func TestThrottledForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{policy: objstore.Policy{Patience: patience}}
		began := time.Now()
		made, err := call(t.Context(), a, action{"make a snapshot of", "data", ""}, func(context.Context) (string, error) {
			if time.Since(began) < time.Minute {
				return "", &googleapi.Error{Code: http.StatusTooManyRequests, Message: "Rate Limit Exceeded"}
			}
			return "data-1", nil
		})
		require.NoError(t, err)
		assert.Equal(t, "data-1", made)
	})
}
