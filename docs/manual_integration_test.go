//go:build integration

package docs

import (
	"os"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

func TestMain(m *testing.M) { os.Exit(stacktest.Main(m)) }

// TestManual follows every page, in the order of the manual, on one machine.
func TestManual(t *testing.T) {
	s := newSite(t)
	for _, p := range reading(t) {
		t.Run(p.name, func(t *testing.T) { s.follow(t, p) })
	}
	t.Run("walk through the UI", func(t *testing.T) { s.walk(t) })
}
