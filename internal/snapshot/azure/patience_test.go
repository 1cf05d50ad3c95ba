package azure

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// TestThrottledForAMinute: that is waited for.
func TestThrottledForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{policy: objstore.Policy{Patience: patience}}
		began := time.Now()
		made, err := call(t.Context(), a, action{"make a snapshot of", "data", ""}, func(context.Context) (string, error) {
			if time.Since(began) < time.Minute {
				return "", &azcore.ResponseError{StatusCode: http.StatusTooManyRequests, ErrorCode: "TooManyRequests"}
			}
			return "data-1", nil
		})
		require.NoError(t, err)
		assert.Equal(t, "data-1", made)
	})
}
