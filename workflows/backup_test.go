package workflows_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/workflows"
)

const id = backup.ID("20261124T020000")

// stage is a workflow environment in which every activity succeeds at once,
// unless a test changes that, and all calls are written down.
type stage struct {
	*testsuite.TestWorkflowEnvironment
	calls []string
	fail  activities.Failure // what was recorded as the reason
	refs  []activities.Ref   // of the copies
	plan  activities.Plan
}

func newStage(t *testing.T, plan activities.Plan) *stage {
	var suite testsuite.WorkflowTestSuite
	s := &stage{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment()}
	t.Cleanup(func() { s.AssertExpectations(t) })
	s.SetTestTimeout(20 * time.Second)
	s.RegisterWorkflow(workflows.BackupWorkflow)
	for _, a := range []any{&activities.Preflight{}, &activities.Catalogue{}, &activities.Keeper{}, &activities.BaseBackup{}, &activities.Files{}, &activities.Snapshots{}, &activities.WAL{}, &activities.Proof{}} {
		s.RegisterActivity(a)
	}
	s.plan = plan
	s.plan.Deadline, s.plan.WALWait, s.plan.Heartbeat = 24*time.Hour, 15*time.Minute, 30*time.Second
	s.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		s.calls = append(s.calls, info.ActivityType.Name)
	})
	s.OnActivity("CreateBackup", mock.Anything, mock.Anything, mock.Anything).Return(id, nil).Maybe()
	s.OnActivity("RecordBegin", mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(nil).Maybe()
	s.OnActivity("RecordCopied", mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(nil).Maybe()
	s.OnActivity("ProveBackup", mock.Anything, mock.Anything).Return(activities.Proven{Files: 3}, nil).Maybe()
	s.OnActivity("PurgeWAL", mock.Anything, mock.Anything).Return(nil, nil).Maybe()
	s.OnActivity("AbortSession", mock.Anything, mock.Anything).Return(nil).Maybe()
	s.OnActivity("AbortCopy", mock.Anything, mock.Anything).Return(nil).Maybe()
	s.OnActivity("RecordFailed", mock.Anything, mock.Anything, mock.Anything).Return(func(_ context.Context, _ activities.Ref, f activities.Failure) error {
		s.fail = f
		return nil
	}).Maybe()
	sessions := 0
	s.OnActivity("StartBackup", mock.Anything, mock.Anything, mock.Anything).Return(func(_ context.Context, ref activities.Ref, _ string) (activities.HeldSession, error) {
		sessions++
		return activities.HeldSession{Epoch: strings.Repeat("e", sessions), HoldQueue: "hold", CallQueue: "call"}, nil
	}).Maybe()
	return s
}

// good lets the rest succeed; tests put what fails before it.
func (s *stage) good() *stage {
	s.OnActivity("PlanBackup", mock.Anything, mock.Anything).Return(s.plan, nil).Maybe()
	s.OnActivity("HoldSession", mock.Anything, mock.Anything).After(23 * time.Hour).Return(nil).Maybe()
	copied := func(_ context.Context, ref activities.Ref) (activities.Copied, error) {
		s.refs = append(s.refs, ref)
		return activities.Copied{Bytes: 7, Label: "label"}, nil
	}
	s.OnActivity("CopyBaseBackup", mock.Anything, mock.Anything).After(time.Minute).Return(copied).Maybe()
	s.OnActivity("CopyFiles", mock.Anything, mock.Anything).After(time.Minute).Return(copied).Maybe()
	s.OnActivity("CutSnapshots", mock.Anything, mock.Anything, mock.Anything).After(time.Second).Return(activities.Copied{Bytes: 7}, nil).Maybe()
	s.OnActivity("StopBackup", mock.Anything, mock.Anything).Return(activities.StoppedSession{Found: true}, nil).Maybe()
	s.OnActivity("LookupStop", mock.Anything, mock.Anything).Return(activities.StoppedSession{}, nil).Maybe()
	s.OnActivity("WaitForWAL", mock.Anything, mock.Anything, mock.Anything).Return(true, nil).Maybe()
	s.OnActivity("RecordDone", mock.Anything, mock.Anything, mock.Anything).Return(activities.Recorded{}, nil).Maybe()
	return s
}

func (s *stage) run(t *testing.T) (workflows.BackupResult, error) {
	t.Helper()
	s.ExecuteWorkflow(workflows.BackupWorkflow, activities.Request{Server: "main"})
	if !s.IsWorkflowCompleted() {
		t.Fatal("the workflow did not end")
	}
	var res workflows.BackupResult
	err := s.GetWorkflowError()
	if err == nil {
		err = s.GetWorkflowResult(&res)
	}
	return res, err
}

func (s *stage) count(name string) int {
	n := 0
	for _, c := range s.calls {
		if c == name {
			n++
		}
	}
	return n
}

var (
	native     = activities.Plan{Method: "postgres", Bracket: activities.Native}
	concurrent = activities.Plan{Method: "local-rsync", Bracket: activities.Concurrent}
	snapshots  = activities.Plan{Method: "snapshot", Bracket: activities.Concurrent}
	lost       = temporal.NewNonRetryableApplicationError("the session ended", string(fault.SessionLost), nil)
)

func TestBackupGoesThroughItsPhasesInOrder(t *testing.T) {
	for _, plan := range []activities.Plan{native, concurrent, snapshots} {
		s := newStage(t, plan).good()
		res, err := s.run(t)
		if err != nil || res.ID != id || res.Status != backup.Done || res.Attempts != 1 || res.Bytes != 7 {
			t.Errorf("%s: %+v, %v", plan.Method, res, err)
		}
		var order []string
		for _, c := range s.calls {
			if c != "HoldSession" {
				order = append(order, c)
			}
		}
		copying := map[string]string{"postgres": "CopyBaseBackup", "snapshot": "CutSnapshots"}[plan.Method]
		if copying == "" {
			copying = "CopyFiles"
		}
		want := []string{"PlanBackup", "CreateBackup", "StartBackup", "RecordBegin", copying, "StopBackup", "RecordCopied", "WaitForWAL", "ProveBackup", "RecordDone", "PurgeWAL"}
		if !slices.Equal(order, want) {
			t.Errorf("%s: %v", plan.Method, order)
		}
	}
}

func TestALostSessionBeginsAnotherAttemptOfTheSameBackup(t *testing.T) {
	s := newStage(t, concurrent)
	s.OnActivity("HoldSession", mock.Anything, "e").After(10 * time.Second).Return(lost).Once()
	res, err := s.good().run(t)
	if err != nil || res.ID != id || res.Status != backup.Done || res.Attempts != 2 {
		t.Fatalf("%+v, %v", res, err)
	}
	if s.count("CreateBackup") != 1 || s.count("StartBackup") != 2 || s.count("AbortSession") != 0 {
		t.Errorf("calls: %v", s.calls)
	}
	if last := s.refs[len(s.refs)-1]; last.Attempt != 2 || last.ID != id {
		t.Errorf("the copy that counts was made for %+v", last)
	}
}

func TestANativeCopyOutlivesTheKeeperOfItsLock(t *testing.T) {
	s := newStage(t, native)
	s.OnActivity("HoldSession", mock.Anything, "e").After(10 * time.Second).Return(lost).Once()
	res, err := s.good().run(t)
	if err != nil || res.Status != backup.Done || res.Attempts != 1 || s.count("CopyBaseBackup") != 1 || s.count("StartBackup") != 2 {
		t.Errorf("%+v, %v, %v", res, err, s.calls)
	}
}

func TestAStoredStopCountsWhoeverDied(t *testing.T) {
	s := newStage(t, concurrent)
	s.OnActivity("StopBackup", mock.Anything, mock.Anything).Return(activities.StoppedSession{}, lost).Once()
	s.OnActivity("LookupStop", mock.Anything, "e").Return(activities.StoppedSession{Found: true, Label: "stored"}, nil).Once()
	res, err := s.good().run(t)
	if err != nil || res.Status != backup.Done || res.Attempts != 1 {
		t.Errorf("%+v, %v, %v", res, err, s.calls)
	}
}

func TestAStopThatWasNotStoredBeginsAnotherAttempt(t *testing.T) {
	s := newStage(t, concurrent)
	s.OnActivity("StopBackup", mock.Anything, mock.Anything).Return(activities.StoppedSession{}, lost).Once()
	res, err := s.good().run(t)
	if err != nil || res.Status != backup.Done || res.Attempts != 2 || s.count("LookupStop") == 0 {
		t.Errorf("%+v, %v, %v", res, err, s.calls)
	}
}

func TestASlowStopOfALivingSessionIsAskedAgain(t *testing.T) {
	s := newStage(t, concurrent)
	slow := temporal.NewTimeoutError(enums.TIMEOUT_TYPE_SCHEDULE_TO_START, nil)
	s.OnActivity("StopBackup", mock.Anything, mock.Anything).Return(activities.StoppedSession{}, slow).Once()
	res, err := s.good().run(t)
	if err != nil || res.Attempts != 1 || s.count("StartBackup") != 1 {
		t.Errorf("%+v, %v, %v", res, err, s.calls)
	}
}

func TestAProgramThatWasKilledBeginsAnotherAttempt(t *testing.T) {
	s := newStage(t, native)
	s.OnActivity("CopyBaseBackup", mock.Anything, mock.Anything).Return(activities.Copied{}, temporal.NewNonRetryableApplicationError("killed", string(fault.Crashed), nil)).Once()
	res, err := s.good().run(t)
	if err != nil || res.Status != backup.Done || res.Attempts != 2 || s.count("AbortSession") != 1 {
		t.Errorf("%+v, %v, %v", res, err, s.calls)
	}
}

// TestSnapshotsMayTakeAnHour: who waits for snapshots asks no more of the engine than who
// does not, so that the history grows by nothing; that of testdata/snapshot.json has 44 KB.
func TestSnapshotsMayTakeAnHour(t *testing.T) {
	events := func(last time.Duration) (calls []string, timers int) {
		s := newStage(t, snapshots)
		s.OnActivity("CutSnapshots", mock.Anything, mock.Anything, mock.Anything).After(last).Return(activities.Copied{Bytes: 7}, nil)
		s.SetOnTimerScheduledListener(func(string, time.Duration) { timers++ })
		began := s.Now()
		if _, err := s.good().run(t); err != nil || s.Now().Sub(began) < last {
			t.Errorf("%s, %v", s.Now().Sub(began), err)
		}
		return slices.Sorted(slices.Values(s.calls)), timers // some run beside each other
	}
	short, none := events(time.Second)
	long, timers := events(time.Hour)
	if !slices.Equal(short, long) || none != timers {
		t.Errorf("%v and %d timers become %v and %d", short, none, long, timers)
	}
}

// TestSnapshotsThatFail: what no other attempt cures ends the backup, with what to do.
func TestSnapshotsThatFail(t *testing.T) {
	s := newStage(t, snapshots)
	full := temporal.NewApplicationErrorWithOptions("quota", string(fault.Disk), temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{activities.Trouble{Hint: "free space"}}})
	s.OnActivity("CutSnapshots", mock.Anything, mock.Anything, mock.Anything).Return(activities.Copied{}, full)
	_, err := s.good().run(t)
	if err == nil || s.fail.Message != "quota" || s.fail.Hint != "free space" || !s.fail.Disk || s.count("AbortSession") != 1 || s.count("AbortCopy") != 1 || s.count("StopBackup") != 0 {
		t.Errorf("%v, recorded %+v, calls %v", err, s.fail, s.calls)
	}
}

func TestAnUnclearFailureIsRepeatedAFewTimes(t *testing.T) {
	s := newStage(t, native)
	s.OnActivity("CopyBaseBackup", mock.Anything, mock.Anything).Return(activities.Copied{}, temporal.NewNonRetryableApplicationError("what?", string(fault.Internal), nil))
	if _, err := s.good().run(t); err == nil || s.count("CopyBaseBackup") != 3 {
		t.Errorf("%v, %v", err, s.calls)
	}
}

func TestTheFirstErrorIsRecorded(t *testing.T) {
	s := newStage(t, concurrent)
	denied := temporal.NewNonRetryableApplicationError("base/5/16384 cannot be read", string(fault.Permission), nil, activities.Trouble{Hint: "chmod"})
	s.OnActivity("CopyFiles", mock.Anything, mock.Anything).Return(activities.Copied{}, denied).Once()
	s.OnActivity("AbortCopy", mock.Anything, mock.Anything).Return(errors.New("something else")).Maybe()
	_, err := s.good().run(t)
	if f := activities.Fault("", "", err); !fault.Is(f, fault.Permission) || fault.HintOf(f) != "chmod" {
		t.Errorf("ended with %v", err)
	}
	if s.fail.Phase != "copy" || !strings.Contains(s.fail.Message, "base/5/16384 cannot be read") || s.fail.Cancelled {
		t.Errorf("recorded %+v", s.fail)
	}
	if s.count("AbortSession") != 1 || s.count("AbortCopy") == 0 || s.count("RecordDone") != 0 {
		t.Errorf("calls: %v", s.calls)
	}
}

func TestAPreflightThatRefusesLeavesNothing(t *testing.T) {
	s := newStage(t, native)
	denied := temporal.NewNonRetryableApplicationError("no", string(fault.Refused), nil, activities.Trouble{Hint: `GRANT x TO "y"`})
	s.OnActivity("PlanBackup", mock.Anything, mock.Anything).Return(activities.Plan{}, denied)
	_, err := s.run(t)
	if err == nil || !slices.Equal(s.calls, []string{"PlanBackup"}) {
		t.Errorf("%v, %v", err, s.calls)
	}
	// The reason is that of the workflow itself, which lists show.
	var reason *temporal.ApplicationError
	if !errors.As(err, &reason) || reason.Message() != "no" || errors.As(err, new(*temporal.ActivityError)) {
		t.Errorf("ended with %v", err)
	}
	var st workflows.State
	v, err := s.QueryWorkflow(workflows.ProgressQuery)
	if err == nil {
		err = v.Get(&st)
	}
	if err != nil || st.Phase != "failed" || st.Details != "**Failed** (Refused): `` no ``\n\n**What to do**: `` GRANT x TO \"y\" ``" {
		t.Errorf("%v, %+v", err, st)
	}
}

func TestACancelledBackupEndsItsSessionAndItsCopy(t *testing.T) {
	s := newStage(t, concurrent).good()
	s.RegisterDelayedCallback(s.CancelWorkflow, 20*time.Second)
	_, err := s.run(t)
	if f := activities.Fault("", "", err); !fault.Is(f, fault.Cancelled) {
		t.Errorf("ended with %v", err)
	}
	if !s.fail.Cancelled || s.count("AbortSession") != 1 || s.count("AbortCopy") != 1 || s.count("RecordFailed") != 1 {
		t.Errorf("recorded %+v, calls %v", s.fail, s.calls)
	}
}

func TestWALThatDoesNotArriveDoesNotBlockTheNextBackup(t *testing.T) {
	s := newStage(t, native)
	s.OnActivity("WaitForWAL", mock.Anything, mock.Anything, mock.Anything).Return(false, nil)
	res, err := s.good().run(t)
	if err != nil || res.Status != backup.WaitingForWALs || len(res.Warnings) != 1 || s.count("ProveBackup") != 0 || s.count("PurgeWAL") != 0 {
		t.Errorf("%+v, %v, %v", res, err, s.calls)
	}
}

func TestTheDeadlineEndsAStormyBackup(t *testing.T) {
	s := newStage(t, concurrent)
	s.OnActivity("HoldSession", mock.Anything, mock.Anything).After(time.Hour).Return(lost)
	s.OnActivity("CopyFiles", mock.Anything, mock.Anything).After(2*time.Hour).Return(activities.Copied{}, nil)
	res, err := s.good().run(t)
	if err == nil || !strings.Contains(err.Error(), "holdfast_backup_deadline") {
		t.Errorf("%+v, %v", res, err)
	}
	if n := s.count("StartBackup"); n < 20 || n > 25 {
		t.Errorf("%d attempts in 24 hours", n)
	}
}

func TestABackupThatFollowsAnotherPurgesNoWAL(t *testing.T) {
	s := newStage(t, native)
	s.OnActivity("RecordDone", mock.Anything, mock.Anything, mock.Anything).Return(activities.Recorded{Follows: true}, nil)
	res, err := s.good().run(t)
	if err != nil || res.Status != backup.Done || s.count("RecordDone") != 1 || s.count("PurgeWAL") != 0 {
		t.Errorf("%+v, %v, %v", res, err, s.calls)
	}
}

func TestAPurgeThatFailsIsAWarning(t *testing.T) {
	s := newStage(t, native)
	s.OnActivity("PurgeWAL", mock.Anything, mock.Anything).Return(nil, temporal.NewNonRetryableApplicationError("cannot", string(fault.Corrupt), nil))
	res, err := s.good().run(t)
	if err != nil || res.Status != backup.Done {
		t.Errorf("%+v, %v", res, err)
	}
}
