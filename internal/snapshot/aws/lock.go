package aws

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// Locking is how completed snapshots are locked, by the options aws_snapshot_lock_*.
type Locking struct {
	Mode    string // as it is configured
	Days    *int32
	CoolOff *int32 // hours
	Until   *time.Time
}

// lockOf reads the options; their rules were checked.
func lockOf(s *config.Server) (*Locking, error) {
	if s.AWSSnapshotLockMode == "" {
		return nil, nil
	}
	l := &Locking{Mode: s.AWSSnapshotLockMode, Days: number(s.AWSSnapshotLockDuration), CoolOff: number(s.AWSSnapshotLockCoolOffPeriod)}
	if s.AWSSnapshotLockExpiration != "" {
		at, err := time.Parse("2006-01-02T15:04:05.000Z", s.AWSSnapshotLockExpiration)
		if err != nil {
			return nil, fault.New(fault.Config, "read", "aws_snapshot_lock_expiration_date", "%w", err).WithHint("write it as YYYY-MM-DDTHH:MM:SS.fffZ")
		}
		l.Until = &at
	}
	return l, nil
}

func number(n *int) *int32 {
	if n == nil {
		return nil
	}
	return aws.Int32(int32(*n))
}

// Lock is Locker's.
func (p *Provider) Lock(ctx context.Context, s snapshot.Snapshot) (snapshot.Snapshot, error) {
	if p.Locking == nil {
		return s, nil
	}
	found, err := p.Locks(ctx, []snapshot.Snapshot{s})
	if err != nil || found[0].Lock != nil && strings.EqualFold(found[0].Lock.Mode, p.Locking.Mode) {
		return found[0], err
	}
	out, err := call(ctx, p.api, action{"lock snapshot", s.Name, "ec2:LockSnapshot and ec2:DescribeLockedSnapshots"}, func(ctx context.Context, _ bool) (*ec2.LockSnapshotOutput, error) {
		return p.api.client.LockSnapshot(ctx, &ec2.LockSnapshotInput{SnapshotId: &s.ID, LockMode: types.LockMode(p.Locking.Mode),
			LockDuration: p.Locking.Days, CoolOffPeriod: p.Locking.CoolOff, ExpirationDate: p.Locking.Until})
	})
	if err != nil {
		return s, err
	}
	s.Lock = &snapshot.Lock{Mode: p.Locking.Mode, Until: aws.ToTime(out.LockExpiresOn)}
	return s, nil
}

// Locks is Locker's. Who may not ask for them learns of them when a
// deletion is refused.
func (p *Provider) Locks(ctx context.Context, list []snapshot.Snapshot) ([]snapshot.Snapshot, error) {
	out := slices.Clone(list)
	ids := make([]string, len(list))
	for i, s := range list {
		ids[i] = s.ID
	}
	const atOnce = 200
	for some := range slices.Chunk(ids, atOnce) {
		req := &ec2.DescribeLockedSnapshotsInput{SnapshotIds: some}
		for {
			page, err := call(ctx, p.api, action{"look at the locks of", "snapshots", "ec2:DescribeLockedSnapshots"}, func(ctx context.Context, _ bool) (*ec2.DescribeLockedSnapshotsOutput, error) {
				return p.api.client.DescribeLockedSnapshots(ctx, req)
			})
			if said(err, "UnauthorizedOperation", "AccessDenied", "InvalidAction", "UnsupportedOperation", "InvalidSnapshot.NotFound") {
				return out, nil
			}
			if err != nil {
				return nil, err
			}
			for _, l := range page.Snapshots {
				at := slices.Index(ids, aws.ToString(l.SnapshotId))
				if mode := modeOf(l.LockState); at >= 0 && mode != "" {
					out[at].Lock = &snapshot.Lock{Mode: mode, Until: aws.ToTime(l.LockExpiresOn)}
				}
			}
			if aws.ToString(page.NextToken) == "" {
				break
			}
			req.NextToken = page.NextToken
		}
	}
	return out, nil
}

// modeOf is the mode of a lock by its state; "" when it does not hold any more.
func modeOf(s types.LockState) string {
	switch s {
	case types.LockStateGovernance:
		return string(types.LockModeGovernance)
	case types.LockStateCompliance, types.LockStateComplianceCooloff:
		return string(types.LockModeCompliance)
	}
	return ""
}
