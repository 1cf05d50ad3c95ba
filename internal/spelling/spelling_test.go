package spelling_test

import (
	"testing"

	"github.com/holdfast-pg/holdfast/internal/spelling"
)

func TestNearest(t *testing.T) {
	words := []string{"latest", "oldest", "last-failed", "list-backups", "show-backup"}
	for typed, want := range map[string]string{
		"lastest": "latest", "oldset": "oldest", "list-bakups": "list-backups", "lst-failed": "last-failed",
		"weekly": "", "": "", "show-servers": "",
	} {
		if got := spelling.Nearest(typed, words); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
	if got := spelling.DidYouMean("oldset", words); got != "did you mean oldest?" {
		t.Error(got)
	}
	if got := spelling.DidYouMean("weekly", words); got != "" {
		t.Error(got)
	}
}
