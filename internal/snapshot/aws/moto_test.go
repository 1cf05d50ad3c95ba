//go:build integration

package aws_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/aws"
	"github.com/holdfast-pg/holdfast/internal/snapshot/aws/awstest"
	"github.com/holdfast-pg/holdfast/internal/snapshot/aws/mototest"
	"github.com/holdfast-pg/holdfast/internal/snapshot/snapshottest"
)

// machine is an instance of moto's with two volumes beside its root, and its provider.
func machine(t *testing.T) (*mototest.Server, *ec2.Client, *aws.Provider) {
	m := mototest.Start(t)
	c := settings(t, awstest.New(t), "data", "")
	c.HoldfastSnapshotEndpoint = m.URL
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(awstest.Region))
	require.NoError(t, err)
	api := ec2.NewFromConfig(cfg, func(o *ec2.Options) { o.BaseEndpoint = &m.URL })
	image, err := api.RegisterImage(t.Context(), &ec2.RegisterImageInput{Name: sdk.String("debian"), RootDeviceName: sdk.String("/dev/xvda")})
	require.NoError(t, err)
	disk := func(device string) types.BlockDeviceMapping {
		return types.BlockDeviceMapping{DeviceName: &device, Ebs: &types.EbsBlockDevice{VolumeSize: sdk.Int32(8)}}
	}
	run, err := api.RunInstances(t.Context(), &ec2.RunInstancesInput{ImageId: image.ImageId, MinCount: sdk.Int32(1), MaxCount: sdk.Int32(1),
		BlockDeviceMappings: []types.BlockDeviceMapping{disk("/dev/xvda"), disk("/dev/sdf"), disk("/dev/sdg")},
		TagSpecifications:   []types.TagSpecification{{ResourceType: types.ResourceTypeInstance, Tags: []types.Tag{{Key: sdk.String("Name"), Value: sdk.String("pg")}}}}})
	require.NoError(t, err)
	volumes, err := api.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{})
	require.NoError(t, err)
	at := map[string]string{}
	for _, v := range volumes.Volumes {
		if a := v.Attachments; len(a) > 0 && *a[0].InstanceId == *run.Instances[0].InstanceId {
			at[*a[0].Device] = *v.VolumeId
		}
	}
	require.Len(t, at, 3)
	_, err = api.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{at["/dev/sdf"]}, Tags: []types.Tag{{Key: sdk.String("Name"), Value: sdk.String("data")}}})
	require.NoError(t, err)
	c.SnapshotDisks[1] = at["/dev/sdg"]
	p, err := aws.Open(t.Context(), c, host{fmt.Sprintf("%s /dev/nvme1n1\n= /dev/xvdg\n", strings.Replace(at["/dev/sdf"], "-", "", 1)), nitro.mounts, ""})
	require.NoError(t, err)
	p.Pause = time.Millisecond
	return m, api, p
}

// TestMoto: the provider works with an EC2 that was not written beside it.
func TestMoto(t *testing.T) {
	m, api, p := machine(t)
	m.Pending = 1 << 30
	snapshottest.Suite{Open: func(*testing.T, snapshot.Host) snapshot.Provider { return p }}.Run(t)
	disks, err := p.Disks(t.Context())
	require.NoError(t, err)
	job := snapshot.Job{Tag: snapshot.Tag{Owner: "main-00000000", ID: "20260101T000000", Attempt: 1}, Disks: disks, Until: snapshot.Completed, Timeout: time.Minute, Pause: time.Millisecond}
	mine := func() []types.Snapshot {
		all, err := api.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: []types.Filter{{Name: sdk.String("tag-key"), Values: []string{"holdfast-owner"}}}})
		require.NoError(t, err)
		return all.Snapshots
	}

	t.Run("taken", func(t *testing.T) {
		busy := map[string]int{"DescribeSnapshots": 1, "CreateSnapshots": 1, "CreateTags": 1}
		m.Pending, m.PageSize, m.Log = 2, 1, nil
		m.Fail = func(action string) *awstest.Failure {
			if busy[action] > 0 {
				busy[action]--
				return &awstest.Failure{Status: 503, Code: "RequestLimitExceeded", Text: "Request limit exceeded."}
			}
			return nil
		}
		made, err := snapshot.Take(t.Context(), p, job)
		require.NoError(t, err)
		require.Len(t, made, 2)
		for i, s := range made {
			assert.Equal(t, snapshot.Completed, s.Phase)
			assert.Equal(t, snapshot.NameOf(disks[i].Name, job.Tag.ID), s.Name)
		}
		assert.Equal(t, map[string]int{"DescribeSnapshots": 0, "CreateSnapshots": 0, "CreateTags": 0}, busy)
		assert.Equal(t, 2, strings.Count(strings.Join(m.Log, " "), "CreateSnapshots"), "the set was asked for again when it was refused, and for nothing else")
		again, err := snapshot.Take(t.Context(), p, job)
		require.NoError(t, err)
		assert.Equal(t, made, again, "what is there is adopted")

		info, err := p.SnapshotsInfo(t.Context(), disks, made)
		require.NoError(t, err)
		assert.Contains(t, info.String(), "'snapshot_id': '"+made[0].ID+"'")
		assert.Contains(t, info.String(), "'account_id': '123456789012'")
	})

	t.Run("one by one", func(t *testing.T) {
		m.Fail = func(action string) *awstest.Failure {
			if action == "CreateSnapshots" {
				return &awstest.Failure{Status: 403, Code: "UnauthorizedOperation", Text: "You are not authorized to perform this operation."}
			}
			return nil
		}
		job := job
		job.Tag.Attempt = 2
		made, err := snapshot.Take(t.Context(), p, job)
		require.NoError(t, err)
		assert.Len(t, made, 2)
		m.PageSize = 0
		assert.Len(t, mine(), 2, "those of the first attempt are gone")
		m.PageSize, m.Fail = 1, nil
	})

	t.Run("disks of them", func(t *testing.T) {
		all, err := p.List(t.Context(), job.Tag.Owner)
		require.NoError(t, err)
		d, err := p.CreateDisk(t.Context(), "pg", all[0])
		if assert.NoError(t, err) {
			assert.Equal(t, all[0].ID, d.Source)
		}
		again, err := p.CreateDisk(t.Context(), "pg", all[0])
		require.NoError(t, err)
		assert.Equal(t, d, again)
	})

	t.Run("locked, and deleted", func(t *testing.T) {
		days := int32(3)
		p.Locking = &aws.Locking{Mode: "governance", Days: &days}
		all, err := p.List(t.Context(), job.Tag.Owner)
		require.NoError(t, err)
		locked, err := snapshot.LockAll(t.Context(), p, all)
		require.NoError(t, err)
		require.NotNil(t, locked[0].Lock)
		err = snapshot.CheckUnlocked(t.Context(), p, job.Tag.Owner, job.Tag.ID)
		assert.Equal(t, fault.Refused, fault.KindOf(err))
		assert.ErrorContains(t, err, "it is locked (governance) until")
		err = p.Delete(t.Context(), locked[0])
		assert.Equal(t, fault.Refused, fault.KindOf(err), "%v", err)
		m.Unlock()
		require.NoError(t, snapshot.RemoveAll(t.Context(), p, job.Tag.Owner, job.Tag.ID, nil))
		assert.Empty(t, mine())
	})
}
