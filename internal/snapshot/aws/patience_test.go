package aws

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/awslogin"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// TestThrottledForAMinute: that is waited for, and nobody doubts that nothing was made.
func TestThrottledForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{policy: objstore.Policy{Patience: patience}, creds: &awslogin.Credentials{}}
		began := time.Now()
		made, err := call(t.Context(), a, action{"make a snapshot of", "data", ""}, func(_ context.Context, again bool) (string, error) {
			assert.False(t, again)
			if time.Since(began) < time.Minute {
				return "", &smithy.GenericAPIError{Code: "RequestLimitExceeded", Message: "Request limit exceeded."}
			}
			return "snap-1", nil
		})
		require.NoError(t, err)
		assert.Equal(t, "snap-1", made)
	})
}
