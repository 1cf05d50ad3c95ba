package gcp

import (
	"testing"

	"cloud.google.com/go/compute/apiv1/computepb"
	"github.com/stretchr/testify/assert"
)

func TestPhasesAreOfTheAPI(t *testing.T) {
	for status := range phases {
		assert.Contains(t, computepb.Snapshot_Status_value, status)
	}
}
