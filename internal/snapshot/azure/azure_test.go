package azure_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/azure"
	"github.com/holdfast-pg/holdfast/internal/snapshot/azure/azuretest"
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

var host = mounts{"/dev/disk/azure/scsi1/lun0": "/srv/a b", "/dev/disk/azure/scsi1/lun3": "/srv/c"}

func settings(s *azuretest.Server, disks ...string) *config.Server {
	var c config.Server
	c.Name, c.AzureSubscriptionID, c.AzureResourceGroup, c.AzureCredential = "main", azuretest.Subscription, azuretest.Group, "managed-identity"
	c.SnapshotInstance, c.SnapshotDisks = "pg", disks
	c.HoldfastSnapshotEndpoint, c.HoldfastSnapshotTimeout = s.URL, time.Minute
	return &c
}

func open(t *testing.T, c *config.Server) *azure.Provider {
	t.Helper()
	p, err := azure.Open(c, host)
	require.NoError(t, err)
	p.Pause = time.Millisecond
	return p
}

// bench is a server whose machine has three data disks, and a provider of two.
func bench(t *testing.T) (*azuretest.Server, *azure.Provider, snapshot.Job) {
	s := azuretest.New(t)
	s.Creating, s.Copying, s.PageSize = 2, 2, 1
	s.Attach("data", 0)
	s.Attach("space", 3)
	s.Attach("other-data", 1)
	p := open(t, settings(s, "data", "space"))
	disks, err := p.Disks(t.Context())
	require.NoError(t, err)
	return s, p, snapshot.Job{Tag: snapshot.Tag{Owner: "Main.1-00000000", ID: "20260101T000000", Attempt: 1}, Disks: disks, Until: snapshot.Completed, Timeout: time.Minute, Pause: time.Millisecond}
}

func TestSuite(t *testing.T) {
	s, p, _ := bench(t)
	s.Copying = 0
	snapshottest.Suite{Open: func(*testing.T, snapshot.Host) snapshot.Provider { return p }}.Run(t)
}

// TestDisks: a data disk by its name, its device by its LUN, and where that is mounted.
func TestDisks(t *testing.T) {
	s, _, job := bench(t)
	assert.Equal(t, []snapshot.Disk{
		{Name: "data", Path: "/srv/a b", Mount: "/srv/a b", Options: "rw,noatime", Device: "/dev/disk/azure/scsi1/lun0"},
		{Name: "space", Path: "/srv/c", Mount: "/srv/c", Options: "rw,noatime", Device: "/dev/disk/azure/scsi1/lun3"}}, job.Disks)
	s.AttachUnmanaged("blob")
	for disk, want := range map[string]string{
		"ata":                   "is no data disk of the instance pg, which has data, space, other-data, blob",
		"other-data":            "findmnt",
		"blob":                  "it is no managed disk",
		strings.Repeat("a", 65): "no snapshot can be named after it",
	} {
		_, err := open(t, settings(s, disk)).Disks(t.Context())
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "look at disk "+disk)
		assert.NotEmpty(t, fault.HintOf(err), disk)
	}
	c := settings(s, "data")
	c.SnapshotInstance = "gone"
	_, err := open(t, c).Disks(t.Context())
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	assert.ErrorContains(t, err, "the resource group prod has no such virtual machine")
	c.AzureResourceGroup = "elsewhere"
	_, err = open(t, c).Disks(t.Context())
	assert.ErrorContains(t, err, "ResourceGroupNotFound: Resource group could not be found.")
	c.AzureResourceGroup = ""
	_, err = azure.Open(c, host)
	assert.Equal(t, fault.Config, fault.KindOf(err))
}

// TestNVMe: the disks of a machine with NVMe are elsewhere.
func TestNVMe(t *testing.T) {
	s, _, job := bench(t)
	s.NVMe()
	p, err := azure.Open(settings(s, "data", "space"), mounts{"/dev/disk/azure/data/by-lun/0": "/srv/a", "/dev/disk/azure/data/by-lun/3": "/srv/c"})
	require.NoError(t, err)
	p.Pause = time.Millisecond
	disks, err := p.Disks(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "/dev/disk/azure/data/by-lun/3", disks[1].Device)
	made, err := p.Create(t.Context(), job.Tag, disks[0])
	require.NoError(t, err)
	d, err := p.CreateDisk(t.Context(), "pg", made)
	require.NoError(t, err)
	assert.Equal(t, "/dev/disk/azure/data/by-lun/2", d.Device)
	have, err := p.Attached(t.Context(), "pg")
	require.NoError(t, err)
	assert.Equal(t, "/dev/disk/azure/data/by-lun/0", have[0].Device)
}

// TestTake: the requests for a backup of two disks, as they go over the wire.
func TestTake(t *testing.T) {
	s, p, job := bench(t)
	s.Log = nil
	job.Last = "space" // one after the other
	made, err := snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	assert.Equal(t, []string{"data-20260101t000000", "space-20260101t000000"}, s.Snapshots())
	info, err := p.SnapshotsInfo(t.Context(), job.Disks, made)
	require.NoError(t, err)
	assert.Equal(t, `{'provider': 'azure', 'provider_info': {'subscription_id': '0000-1111', 'resource_group': 'prod'}, 'snapshots': [{'mount': {'mount_options': 'rw,noatime', 'mount_point': '/srv/a b'}, `+
		`'provider': {'location': 'westeurope', 'lun': 0, 'snapshot_name': 'data-20260101t000000'}}, `+
		`{'mount': {'mount_options': 'rw,noatime', 'mount_point': '/srv/c'}, 'provider': {'location': 'westeurope', 'lun': 3, 'snapshot_name': 'space-20260101t000000'}}]}`, info.String())
	require.NoError(t, snapshot.RemoveAll(t.Context(), p, job.Tag.Owner, job.Tag.ID, nil))
	assert.Empty(t, s.Snapshots())
	got := strings.ReplaceAll(strings.Join(s.Log, "\n")+"\n", s.URL, "")
	if *update {
		require.NoError(t, os.WriteFile("testdata/take.golden", []byte(got), 0o644))
	}
	want, err := os.ReadFile("testdata/take.golden")
	require.NoError(t, err)
	assert.Equal(t, string(want), got)
}

// TestPhases: cut when its provisioning has succeeded, completed when it is copied.
func TestPhases(t *testing.T) {
	s, p, job := bench(t)
	s.Copying = 1 << 20
	made, err := p.Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err)
	assert.Equal(t, snapshot.Cut, made.Phase)
	phase := func(change func(*armcompute.SnapshotProperties)) snapshot.Snapshot {
		s.Change(made.Name, change)
		all, err := p.List(t.Context(), job.Tag.Owner)
		require.NoError(t, err)
		require.Len(t, all, 1)
		return all[0]
	}
	assert.Equal(t, snapshot.Completed, phase(func(p *armcompute.SnapshotProperties) { p.CompletionPercent = to.Ptr(float32(100)) }).Phase)
	assert.Equal(t, snapshot.Completed, phase(func(p *armcompute.SnapshotProperties) { p.CompletionPercent = nil }).Phase)
	assert.Equal(t, snapshot.Pending, phase(func(p *armcompute.SnapshotProperties) { p.ProvisioningState = to.Ptr("Updating") }).Phase)
	failed := phase(func(p *armcompute.SnapshotProperties) { p.ProvisioningState = to.Ptr("Failed") })
	assert.Equal(t, snapshot.Failed, failed.Phase)
	assert.Equal(t, "its provisioning state is Failed", failed.Why)
	failed = phase(func(p *armcompute.SnapshotProperties) {
		p.ProvisioningState = to.Ptr("Succeeded")
		p.CopyCompletionError = &armcompute.CopyCompletionError{ErrorCode: to.Ptr(armcompute.CopyCompletionErrorReasonCopySourceNotFound), ErrorMessage: to.Ptr("it went")}
	})
	assert.Equal(t, "it went (CopySourceNotFound)", failed.Why)

	s.Creating, p.Timeout = 1<<30, 20*time.Millisecond
	_, err = p.Create(t.Context(), job.Tag, job.Disks[1])
	assert.ErrorContains(t, err, "did not do it within 20ms")
	assert.Contains(t, fault.HintOf(err), "holdfast_snapshot_timeout")
}

// TestLostAnswer: one whose answer was lost is not made twice, whoever asks again.
func TestLostAnswer(t *testing.T) {
	s, p, job := bench(t)
	s.Creating = 0
	puts := 0
	s.Lose = func(r *http.Request) bool {
		if r.Method == http.MethodPut {
			puts++
			return true
		}
		return false
	}
	made, err := p.Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err)
	again, err := open(t, settings(s, "data")).Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err)
	assert.Equal(t, made.ID, again.ID)
	assert.Equal(t, 1, puts)
	assert.Len(t, s.Snapshots(), 1)
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
	_, err = p.Create(t.Context(), job.Tag, job.Disks[0])
	assert.Equal(t, fault.Superseded, fault.KindOf(err), "%v", err)
	s.Put("space-20260101t000000")
	_, err = p.Create(t.Context(), tag, job.Disks[1])
	assert.Equal(t, fault.Conflict, fault.KindOf(err))
	assert.ErrorContains(t, err, "is not of this backup")
	assert.Len(t, s.Snapshots(), 2)
}

// TestErrors: what Azure says has its kind and its cure, at once and in the end of an operation.
func TestErrors(t *testing.T) {
	s, p, job := bench(t)
	for _, c := range []struct {
		azuretest.Failure
		kind fault.Kind
		hint string
	}{
		{azuretest.Failure{Status: 403, Code: "AuthorizationFailed", Text: "The client does not have authorization"}, fault.Permission, "Microsoft.Compute/snapshots/write"},
		{azuretest.Failure{Status: 409, Code: "OperationNotAllowed", Text: "Operation could not be completed as it results in exceeding approved quota"}, fault.Disk, "quota"},
		{azuretest.Failure{Status: 409, Code: "ScopeLocked", Text: "The scope is locked"}, fault.Refused, "lock"},
		{azuretest.Failure{Status: 400, Code: "InvalidParameter", Text: "Invalid value"}, fault.Unavailable, "correct"},
		{azuretest.Failure{Status: 401, Code: "ExpiredAuthenticationToken", Text: "expired"}, fault.Permission, "az login"},
	} {
		s.Fail = func(r *http.Request) *azuretest.Failure {
			if r.Method == http.MethodPut {
				return &c.Failure
			}
			return nil
		}
		_, err := p.Create(t.Context(), job.Tag, job.Disks[0])
		assert.Equal(t, c.kind, fault.KindOf(err), "%v", err)
		assert.ErrorContains(t, err, "make a snapshot of data: Azure says: "+c.Code+": "+c.Text)
		assert.Contains(t, fault.HintOf(err), c.hint)
	}
	assert.Empty(t, s.Snapshots())
	s.Fail = nil
	s.Breaks["data"] = azuretest.Failure{Code: "QuotaExceeded", Text: "too many"}
	_, err := p.Create(t.Context(), job.Tag, job.Disks[0])
	assert.Equal(t, fault.Disk, fault.KindOf(err), "%v", err)
	assert.ErrorContains(t, err, "Azure says: QuotaExceeded: too many")
	delete(s.Breaks, "data")
	made, err := p.Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err, "what has failed gives way")
	assert.NotEqual(t, snapshot.Failed, made.Phase)
}

// TestThrottled: Holdfast asks again when Azure is too busy.
func TestThrottled(t *testing.T) {
	s, p, job := bench(t)
	for _, f := range []azuretest.Failure{{Status: 429, Code: "TooManyRequests"}, {Status: 503, Code: "ServerTimeout"}, {Status: 409, Code: "AnotherOperationInProgress"}} {
		times := 0
		s.Fail = func(*http.Request) *azuretest.Failure {
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

// TestTokens: one that is over is replaced, and one that is refused is tried anew
// once; what the service of tokens says is kept back.
func TestTokens(t *testing.T) {
	s := azuretest.New(t)
	s.TokenTime = time.Second
	s.Attach("data", 0)
	p := open(t, settings(s, "data"))
	for i := range 3 {
		s.Token = fmt.Sprint("token-", i)
		_, err := p.Disks(t.Context())
		require.NoError(t, err)
	}
	refused := 0
	s.Fail = func(*http.Request) *azuretest.Failure {
		if refused++; refused == 1 {
			return &azuretest.Failure{Status: 401, Code: "InvalidAuthenticationToken"}
		}
		return nil
	}
	_, err := p.List(t.Context(), "main-1")
	require.NoError(t, err)
	assert.Equal(t, 2, refused)
	s.TokenStatus = http.StatusBadRequest
	_, err = p.List(t.Context(), "main-1")
	assert.Equal(t, fault.Permission, fault.KindOf(err), "%v", err)
	assert.ErrorContains(t, err, "the Azure Resource Manager")
	assert.NotContains(t, err.Error(), "secret")
	assert.Contains(t, fault.HintOf(err), "az login")
}

// TestExpired: a token that is over while snapshots are waited for is replaced.
func TestExpired(t *testing.T) {
	_, _, job := bench(t)
	s := azuretest.New(t)
	s.Copying, s.TokenTime = 5, time.Second
	s.Attach("data", 0)
	s.Attach("space", 3)
	p := open(t, settings(s, "data", "space"))
	lists := 0
	s.Fail = func(r *http.Request) *azuretest.Failure {
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
	s.Breaks["space"] = azuretest.Failure{Code: "InternalDiskManagementError", Text: "it broke"}
	_, err := snapshot.Take(t.Context(), p, job)
	require.ErrorContains(t, err, "it broke")
	require.NoError(t, snapshot.RemoveAll(t.Context(), p, job.Tag.Owner, job.Tag.ID, nil))
	assert.Empty(t, s.Snapshots())
	s.Detach("space")
	_, err = p.Create(t.Context(), job.Tag, job.Disks[1])
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
}

// TestDelete: what is not there is fine, a resource group that is not there is not.
func TestDelete(t *testing.T) {
	s, p, _ := bench(t)
	require.NoError(t, p.Delete(t.Context(), snapshot.Snapshot{Name: "gone-20260101t000000"}))
	s.Fail = func(*http.Request) *azuretest.Failure {
		return &azuretest.Failure{Status: 404, Code: "ResourceNotFound"}
	}
	require.NoError(t, p.Delete(t.Context(), snapshot.Snapshot{Name: "gone-20260101t000000"}))
	s.Fail = func(*http.Request) *azuretest.Failure {
		return &azuretest.Failure{Status: 404, Code: "ResourceGroupNotFound"}
	}
	assert.Equal(t, fault.NotFound, fault.KindOf(p.Delete(t.Context(), snapshot.Snapshot{Name: "gone-20260101t000000"})))
}

// TestCreateDisk: made once, in the zone of the machine, of the kind of the disk that
// was cut, and attached once, at a free LUN.
func TestCreateDisk(t *testing.T) {
	s, p, job := bench(t)
	made, err := p.Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err)
	s.Log = nil
	for range 2 {
		d, err := p.CreateDisk(t.Context(), "pg", made)
		require.NoError(t, err)
		assert.Equal(t, snapshot.AttachedDisk{Disk: snapshot.Disk{Name: made.Name, Device: "/dev/disk/azure/scsi1/lun2"}, Source: made.ID}, d)
		have, err := p.Attached(t.Context(), "pg")
		require.NoError(t, err)
		require.Len(t, have, 4)
		assert.Equal(t, d, have[3])
		assert.Empty(t, have[0].Source)
	}
	log := strings.Join(s.Log, "\n")
	assert.Contains(t, log, `"sku":{"name":"Premium_LRS"},"zones":["2"]`)
	assert.Equal(t, 1, strings.Count(log, "PUT "))
	assert.Equal(t, 1, strings.Count(log, "POST "))
	_, err = p.CreateDisk(t.Context(), "gone", made)
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	other := made
	other.Name, other.ID = "other-data", "other-data"
	_, err = p.CreateDisk(t.Context(), "pg", other)
	assert.Equal(t, fault.Conflict, fault.KindOf(err), "%v", err)
}
