package activities

import (
	"testing"

	"github.com/stretchr/testify/assert"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
)

// TestSilenceHasWords: a DBA is not told of timeouts of activities.
func TestSilenceHasWords(t *testing.T) {
	silent := temporal.NewTimeoutError(enums.TIMEOUT_TYPE_HEARTBEAT, nil)
	for want, err := range map[string]error{
		"copy main: the process that worked on it died, or does not answer": temporal.NewTimeoutError(enums.TIMEOUT_TYPE_SCHEDULE_TO_START, silent),
		"copy x: the process that worked on it died, or does not answer":    silent,
		"copy main: it was not done in time":                                temporal.NewTimeoutError(enums.TIMEOUT_TYPE_START_TO_CLOSE, nil),
	} {
		subject := "main"
		if err == silent {
			subject = "x"
		}
		assert.EqualError(t, Fault("copy", subject, err), want)
	}
}
