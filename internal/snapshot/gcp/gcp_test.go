package gcp_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/compute/apiv1/computepb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/gcp"
	"github.com/holdfast-pg/holdfast/internal/snapshot/gcp/gcptest"
	"github.com/holdfast-pg/holdfast/internal/snapshot/snapshottest"
)

var update = flag.Bool("update", false, "write golden files")

// mounts says where each device is mounted.
type mounts map[string]string

func (m mounts) Run(_ context.Context, script string, out io.Writer) error {
	for device, at := range m {
		if strings.Contains(script, "'"+device+"'") || strings.HasSuffix(strings.TrimSpace(script), device) {
			_, err := fmt.Fprintf(out, `{"filesystems":[{"target":%q,"source":%q,"fstype":"ext4","options":"rw,noatime"}]}`, at, device)
			return err
		}
	}
	return fault.New(fault.Tool, "run", "findmnt", "exit status 1")
}

var host = mounts{"/dev/disk/by-id/google-dev0": "/srv/a b", "/dev/disk/by-id/google-dev1": "/srv/c"}

func settings(s *gcptest.Server, disks ...string) *config.Server {
	var c config.Server
	c.Name, c.GCPProject, c.GCPZone, c.SnapshotInstance, c.SnapshotDisks = "main", gcptest.Project, gcptest.Zone, "pg", disks
	c.HoldfastSnapshotEndpoint, c.HoldfastSnapshotTimeout = s.URL, time.Minute
	return &c
}

func open(t *testing.T, c *config.Server) *gcp.Provider {
	t.Helper()
	p, err := gcp.Open(c, host)
	require.NoError(t, err)
	p.Pause = time.Millisecond
	return p
}

// bench is a server whose instance has a zonal and a regional disk, and a provider.
func bench(t *testing.T) (*gcptest.Server, *gcp.Provider, snapshot.Job) {
	s := gcptest.New(t)
	s.Creating, s.Uploading, s.PageSize = 2, 2, 1
	s.Attach("zones/"+gcptest.Zone, "data", "dev0")
	s.Attach("regions/"+gcptest.Region, "space", "dev1")
	s.Attach("zones/"+gcptest.Zone, "other-data", "dev2")
	p := open(t, settings(s, "data", "space"))
	disks, err := p.Disks(t.Context())
	require.NoError(t, err)
	return s, p, snapshot.Job{Tag: snapshot.Tag{Owner: "main-00000000", ID: "20260101T000000", Attempt: 1}, Disks: disks, Until: snapshot.Completed, Timeout: time.Minute, Pause: time.Millisecond}
}

func TestSuite(t *testing.T) {
	s, p, _ := bench(t)
	s.Creating, s.Uploading = 0, 0
	snapshottest.Suite{Open: func(*testing.T, snapshot.Host) snapshot.Provider { return p }}.Run(t)
}

// TestDisks: a disk has exactly the name, and its device, its mount and its options.
func TestDisks(t *testing.T) {
	s, _, job := bench(t)
	assert.Equal(t, []snapshot.Disk{
		{Name: "data", Path: "/srv/a b", Mount: "/srv/a b", Options: "rw,noatime", Device: "/dev/disk/by-id/google-dev0"},
		{Name: "space", Path: "/srv/c", Mount: "/srv/c", Options: "rw,noatime", Device: "/dev/disk/by-id/google-dev1"}}, job.Disks)
	for disk, want := range map[string]string{
		"ata":                   "is not attached to the instance pg, which has data, space, other-data",
		"other-data":            "findmnt",
		"Data":                  "no snapshot can be named after it",
		strings.Repeat("a", 48): "no snapshot can be named after it",
	} {
		_, err := open(t, settings(s, disk)).Disks(t.Context())
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "look at disk "+disk)
		assert.NotEmpty(t, fault.HintOf(err), disk)
	}
	s.Attach("regions/"+gcptest.Region, "data", "dev3")
	_, err := open(t, settings(s, "data")).Disks(t.Context())
	assert.ErrorContains(t, err, "a zonal and a regional disk")
	c := settings(s, "data")
	c.SnapshotInstance = "gone"
	_, err = open(t, c).Disks(t.Context())
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	assert.ErrorContains(t, err, "project prod has no such instance in zone europe-west1-b")
	c.GCPZone = ""
	_, err = open(t, c).Disks(t.Context())
	assert.Equal(t, fault.Config, fault.KindOf(err))
	c.GCPProject = ""
	_, err = gcp.Open(c, host)
	assert.Equal(t, fault.Config, fault.KindOf(err))
}

// TestTake: the requests for a backup of two disks, as they go over the wire.
func TestTake(t *testing.T) {
	s, p, job := bench(t)
	var logged bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	s.Log = nil
	job.Last = "space" // one after the other
	made, err := snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	assert.Equal(t, []string{"data-20260101t000000", "space-20260101t000000"}, s.Snapshots())
	assert.Contains(t, logged.String(), "it is large")
	info, err := p.SnapshotsInfo(t.Context(), job.Disks, made)
	require.NoError(t, err)
	assert.Equal(t, `{'provider': 'gcp', 'provider_info': {'project': 'prod'}, 'snapshots': [{'mount': {'mount_options': 'rw,noatime', 'mount_point': '/srv/a b'}, `+
		`'provider': {'device_name': 'dev0', 'snapshot_name': 'data-20260101t000000', 'snapshot_project': 'prod'}}, `+
		`{'mount': {'mount_options': 'rw,noatime', 'mount_point': '/srv/c'}, 'provider': {'device_name': 'dev1', 'snapshot_name': 'space-20260101t000000', 'snapshot_project': 'prod'}}]}`, info.String())
	require.NoError(t, snapshot.RemoveAll(t.Context(), p, job.Tag.Owner, job.Tag.ID, nil))
	assert.Empty(t, s.Snapshots())
	got := strings.Join(s.Log, "\n") + "\n"
	if *update {
		require.NoError(t, os.WriteFile("testdata/take.golden", []byte(got), 0o644))
	}
	want, err := os.ReadFile("testdata/take.golden")
	require.NoError(t, err)
	assert.Equal(t, string(want), got)
}

// TestCut: the call returns as soon as the content is fixed, and not before.
func TestCut(t *testing.T) {
	s, p, job := bench(t)
	s.Creating, s.Uploading = 5, 1000
	made, err := p.Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err)
	assert.Equal(t, snapshot.Cut, made.Phase)
	s.SetStatus(made.Name, "FAILED")
	job.Disks = job.Disks[:1]
	_, err = snapshot.Await(t.Context(), p, job, []snapshot.Snapshot{made})
	assert.ErrorContains(t, err, "its status is FAILED")
	s.SetStatus(made.Name, "CREATING")
	p.Timeout = 20 * time.Millisecond
	tag := job.Tag
	tag.ID = "20260101T000001"
	s.Creating = 1 << 30
	_, err = p.Create(t.Context(), tag, job.Disks[0])
	assert.ErrorContains(t, err, "did not do it within 20ms")
	assert.Contains(t, fault.HintOf(err), "holdfast_snapshot_timeout")
}

// TestLostAnswer: one whose answer was lost is not made twice, whoever asks again.
func TestLostAnswer(t *testing.T) {
	s, p, job := bench(t)
	lost := 0
	s.Lose = func(r *http.Request) bool {
		lost++
		return r.Method == http.MethodPost && lost < 3
	}
	made, err := p.Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err)
	s.Lose = nil
	again, err := open(t, settings(s, "data")).Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err)
	assert.Equal(t, made.ID, again.ID)
	assert.Len(t, s.Snapshots(), 1)
}

// TestAnswersOfThePast: Google answers a request whose ID it knows with the old
// operation; one that failed or whose snapshot is gone makes no snapshot.
func TestAnswersOfThePast(t *testing.T) {
	s, p, job := bench(t)
	s.Breaks["data"] = &computepb.Errors{Code: proto.String("QUOTA_EXCEEDED"), Message: proto.String("Quota 'SNAPSHOTS' exceeded.")}
	_, err := p.Create(t.Context(), job.Tag, job.Disks[0])
	require.ErrorContains(t, err, "QUOTA_EXCEEDED: Quota 'SNAPSHOTS' exceeded.")
	assert.Equal(t, fault.Disk, fault.KindOf(err))
	assert.Contains(t, fault.HintOf(err), "quota")
	assert.Empty(t, s.Snapshots())
	delete(s.Breaks, "data")
	for range 2 {
		made, err := p.Create(t.Context(), job.Tag, job.Disks[0])
		require.NoError(t, err)
		assert.Equal(t, []string{made.Name}, s.Snapshots())
		s.SetStatus(made.Name, "READY")
		_, err = snapshot.Await(t.Context(), p, snapshot.Job{Tag: job.Tag, Until: snapshot.Completed, Timeout: time.Minute}, []snapshot.Snapshot{made})
		require.NoError(t, err)
		require.NoError(t, p.Delete(t.Context(), made))
	}
}

// TestTakenName: a snapshot of an earlier attempt gives way, and no other one does.
func TestTakenName(t *testing.T) {
	s, p, job := bench(t)
	tag := job.Tag
	tag.Attempt = 2
	_, err := p.Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err)
	made, err := p.Create(t.Context(), tag, job.Disks[0])
	require.NoError(t, err)
	assert.Equal(t, tag, made.Tag)
	// The ID of the request is that of the first call, whose snapshot is another attempt's by now.
	_, err = p.Create(t.Context(), job.Tag, job.Disks[0])
	assert.Equal(t, fault.Superseded, fault.KindOf(err), "%v", err)
	s.Put(&computepb.Snapshot{Name: proto.String("space-20260101t000000"), Status: proto.String("READY")})
	_, err = p.Create(t.Context(), tag, job.Disks[1])
	assert.Equal(t, fault.Conflict, fault.KindOf(err))
	assert.ErrorContains(t, err, "is not of this backup")
	assert.Len(t, s.Snapshots(), 2)
}

// TestErrors: what Google says has its kind and its cure.
func TestErrors(t *testing.T) {
	s, p, job := bench(t)
	for _, c := range []struct {
		gcptest.Failure
		kind fault.Kind
		hint string
	}{
		{gcptest.Failure{Status: 403, Reason: "forbidden", Text: "Required 'compute.snapshots.create' permission"}, fault.Permission, "compute.snapshots.create"},
		{gcptest.Failure{Status: 403, Reason: "quotaExceeded", Text: "Quota 'SNAPSHOTS' exceeded"}, fault.Disk, "quota"},
		{gcptest.Failure{Status: 400, Reason: "invalid", Text: "Invalid value"}, fault.Unavailable, "correct"},
		{gcptest.Failure{Status: 404, Reason: "notFound", Text: "gone"}, fault.NotFound, "snapshot_disks"},
		{gcptest.Failure{Status: 401, Reason: "authError", Text: "expired"}, fault.Permission, "gcloud auth"},
	} {
		s.Fail = func(r *http.Request) *gcptest.Failure {
			if r.Method == http.MethodPost {
				return &c.Failure
			}
			return nil
		}
		_, err := p.Create(t.Context(), job.Tag, job.Disks[0])
		assert.Equal(t, c.kind, fault.KindOf(err), "%v", err)
		assert.ErrorContains(t, err, "make a snapshot of data: Google says: "+c.Reason+": "+c.Text)
		assert.Contains(t, fault.HintOf(err), c.hint)
	}
	assert.Empty(t, s.Snapshots())
}

// TestThrottled: Holdfast asks again when Google is too busy.
func TestThrottled(t *testing.T) {
	s, p, job := bench(t)
	for _, f := range []gcptest.Failure{{Status: 403, Reason: "rateLimitExceeded"}, {Status: 429, Reason: "x"}, {Status: 503, Reason: "backendError"}} {
		times := 0
		s.Fail = func(*http.Request) *gcptest.Failure {
			if times++; times < 3 {
				return &f
			}
			return nil
		}
		_, err := p.List(t.Context(), job.Tag.Owner)
		require.NoError(t, err)
		assert.Equal(t, 3, times)
	}
}

// TestTokens: one that has expired is replaced; what the service of tokens says is kept back.
func TestTokens(t *testing.T) {
	s, p, job := bench(t)
	s.Token = "token-2"
	_, err := p.Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err)
	s.Token, s.TokenStatus = "token-3", http.StatusBadRequest
	_, err = p.List(t.Context(), job.Tag.Owner)
	assert.Equal(t, fault.Permission, fault.KindOf(err), "%v", err)
	assert.ErrorContains(t, err, "a token for Google Compute Engine: the credentials are refused")
	assert.NotContains(t, err.Error(), "secret")
	assert.Contains(t, fault.HintOf(err), "gcloud auth")
}

// TestExpired: a token that is over while snapshots are waited for is replaced.
func TestExpired(t *testing.T) {
	s, p, job := bench(t)
	lists := 0
	s.Fail = func(r *http.Request) *gcptest.Failure {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/snapshots") {
			if lists++; lists%2 == 1 {
				s.Token = fmt.Sprint("token before list ", lists)
			}
		}
		return nil
	}
	made, err := snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	assert.Len(t, made, 2)
	assert.Len(t, s.Snapshots(), 2)
	assert.Greater(t, lists, 2, "not only before they are made")
}

// TestMiddle: when the second disk fails, nothing of the first stays.
func TestMiddle(t *testing.T) {
	s, p, job := bench(t)
	s.Breaks["space"] = &computepb.Errors{Code: proto.String("INTERNAL"), Message: proto.String("it broke")}
	_, err := snapshot.Take(t.Context(), p, job)
	require.ErrorContains(t, err, "it broke")
	require.NoError(t, snapshot.RemoveAll(t.Context(), p, job.Tag.Owner, job.Tag.ID, nil))
	assert.Empty(t, s.Snapshots())
	s.Detach("space")
	_, err = p.Create(t.Context(), job.Tag, job.Disks[1])
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
}

// TestOwners: names of servers that no label can hold stay apart.
func TestOwners(t *testing.T) {
	_, p, job := bench(t)
	for i, owner := range []string{"Main-1", "main-1", strings.Repeat("x", 80) + "a", strings.Repeat("x", 80) + "b"} {
		tag := job.Tag
		tag.Owner, tag.ID = owner, backup.ID(fmt.Sprintf("20260101T00000%d", i))
		_, err := p.Create(t.Context(), tag, job.Disks[0])
		require.NoError(t, err)
		all, err := p.List(t.Context(), owner)
		require.NoError(t, err)
		require.Len(t, all, 1)
		assert.Equal(t, tag, all[0].Tag)
	}
}

// TestCreateDisk: made once, of the type of the disk that was cut, and attached once.
func TestCreateDisk(t *testing.T) {
	s, p, job := bench(t)
	made, err := p.Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err)
	s.AddInstance("new")
	s.Log = nil
	times := 0
	s.Lose = func(r *http.Request) bool {
		if r.Method == http.MethodPost {
			times++
		}
		return r.Method == http.MethodPost && times == 1
	}
	for range 2 {
		d, err := p.CreateDisk(t.Context(), "new", made)
		require.NoError(t, err)
		assert.Equal(t, snapshot.AttachedDisk{Disk: snapshot.Disk{Name: made.Name, Device: "/dev/disk/by-id/google-" + made.Name}, Source: made.ID}, d)
		have, err := p.Attached(t.Context(), "new")
		require.NoError(t, err)
		assert.Equal(t, []snapshot.AttachedDisk{d}, have)
	}
	assert.Contains(t, strings.Join(s.Log, "\n"), `{"name":"data-20260101t000000","sourceSnapshot":"projects/prod/global/snapshots/data-20260101t000000","type":"projects/prod/zones/europe-west1-b/diskTypes/pd-ssd"}`)
	have, err := p.Attached(t.Context(), "pg")
	require.NoError(t, err)
	assert.Len(t, have, 3)
	_, err = p.CreateDisk(t.Context(), "gone", made)
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	other := made
	other.Name, other.ID = "other-data", "other-data"
	_, err = p.CreateDisk(t.Context(), "new", other)
	assert.Equal(t, fault.Conflict, fault.KindOf(err), "%v", err)
}
