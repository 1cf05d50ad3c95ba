package custom

import (
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// saying is a host whose scripts all print the same.
type saying string

func (s saying) Run(_ context.Context, _ string, out io.Writer) error {
	_, err := io.WriteString(out, string(s))
	return err
}

const good = `{"id": "1", "name": "d-20260101t000000", "backup_id": "20260101T000000", "attempt": 1, "status": "pending", "unknown": 1}`

// TestAnswers: what is missing or wrong is told with the option of the command.
func TestAnswers(t *testing.T) {
	tag := snapshot.Tag{Owner: "main", ID: "20260101T000000", Attempt: 1}
	for said, want := range map[string]string{
		good: "", "": "unexpected end of JSON input", "{}": `"backup_id" is no ID of a backup`,
		`{"name": "x", "backup_id": "20260101T000000", "attempt": 1, "status": "cut"}`:                                  `"id", "name" or "attempt" is missing`,
		`{"id": "1", "name": "d-20260101t000000", "backup_id": "20260101T000000", "attempt": 1, "status": "done"}`:      `"status" is not pending, cut, completed or failed`,
		`{"id": "1", "name": "d-20260101t000000", "backup_id": "20260101T000000", "attempt": 2, "status": "completed"}`: "it describes another snapshot",
	} {
		p := &Provider{Tools: snapshot.Tools{Host: saying(said)}}
		s, err := p.Create(t.Context(), tag, snapshot.Disk{Name: "/d", Path: "/d"})
		if want == "" {
			assert.NoError(t, err)
			assert.Equal(t, snapshot.Snapshot{Tag: tag, Name: "d-20260101t000000", ID: "1", Phase: snapshot.Pending}, s)
			continue
		}
		assert.ErrorContains(t, err, "holdfast_snapshot_create_command: "+want)
		assert.Equal(t, fault.Tool, fault.KindOf(err))
		assert.Contains(t, fault.HintOf(err), "docs/snapshot.md")
		p.Tools.Host = saying("[" + said + "]")
		if _, err := p.List(t.Context(), "main"); said != "" && want != "it describes another snapshot" {
			assert.ErrorContains(t, err, "holdfast_snapshot_list_command: "+want)
		}
	}
}
