package activities

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// TestImpasse: only a standby that has archived what it streamed after the end
// of the copy, and still lets pg_basebackup wait, will do so for ever.
func TestImpasse(t *testing.T) {
	const replayed = "0/2000148"
	second, third := "000000010000000000000002", "000000010000000000000003"
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		title    string
		standby  bool
		archived []string // every ten seconds
		at       int      // seconds after which it is an impasse; 0 for never
	}{
		{"it archives what it was made with", true, []string{"", "", second, second, second}, 0},
		{"nothing is archived", true, []string{"", "", "", "", ""}, 0},
		{"later WAL is archived", true, []string{"", "", third, third, third}, 30},
		{"later WAL was archived just now", true, []string{"", "", "", "", third}, 0},
		{"a primary", false, []string{third, third, third, third, third}, 0},
	} {
		t.Run(c.title, func(t *testing.T) {
			server := asked{standby: c.standby, replayed: replayed}
			i := impasse{connect: func(context.Context, string) (Server, error) { return server, nil }}
			found := 0
			for s := 0; s < 10*len(c.archived) && found == 0; s++ {
				server.archived = c.archived[s/10]
				if err := i.look(t.Context(), began.Add(time.Duration(s)*time.Second)); err != nil {
					if !fault.Is(err, fault.Connection) {
						t.Fatal(err)
					}
					found = s
				}
			}
			if found != c.at {
				t.Errorf("found after %d seconds, not %d", found, c.at)
			}
		})
	}
}
