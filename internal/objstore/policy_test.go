package objstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

func TestPartsOfAStreamFit(t *testing.T) {
	p := &Policy{}
	var sum int64
	for n := 1; n <= MaxParts; n++ {
		size := p.partSize(n)
		if size < MinPart || size > 5<<30 {
			t.Fatalf("part %d has %d bytes", n, size)
		}
		sum += size
	}
	if sum < 5e12 {
		t.Errorf("%d bytes fit", sum)
	}
	if got := (&Policy{PartSize: 7 << 20}).partSize(1); got != 7<<20 {
		t.Errorf("a part size of one's own is %d", got)
	}
}

// TestDo: waiting is for what it can cure, within the time given, and ends with the context.
func TestDo(t *testing.T) {
	away := fault.New(fault.Connection, "x", "", "away").WithHint("see")
	damaged := Mismatch("x", "")
	for _, c := range []struct {
		name     string
		patience time.Duration
		errs     []error // of the calls, then success
		calls    int
		kind     fault.Kind
	}{
		{"success", time.Minute, nil, 1, ""},
		{"cured", time.Minute, []error{away, away}, 3, ""},
		{"no patience", 0, []error{away}, 1, fault.Connection},
		{"not curable", time.Minute, []error{fault.New(fault.Permission, "x", "", "no")}, 1, fault.Permission},
		{"damaged", time.Minute, []error{damaged, away, damaged}, 4, ""},
		{"damaged each time", time.Minute, []error{damaged, damaged, damaged, damaged, damaged}, 4, fault.Corrupt},
		{"damaged, then refused", time.Minute, []error{damaged, fault.New(fault.Permission, "x", "", "no")}, 2, fault.Permission},
		{"unknown", time.Minute, []error{errors.New("x")}, 1, fault.Internal},
	} {
		calls := 0
		err := (&Policy{Patience: c.patience}).Do(t.Context(), func(_ context.Context, again bool) error {
			if again != (calls > 0) {
				t.Errorf("%s: again %v at call %d", c.name, again, calls)
			}
			if calls++; calls <= len(c.errs) {
				return c.errs[calls-1]
			}
			return nil
		})
		if calls != c.calls || fault.KindOf(err) != c.kind {
			t.Errorf("%s: %d calls, %v", c.name, calls, err)
		}
	}
	began := time.Now()
	err := (&Policy{Patience: 300 * time.Millisecond}).Do(t.Context(), func(context.Context, bool) error { return away })
	if took := time.Since(began); !errors.Is(err, away) || fault.HintOf(err) != "see" || took < 300*time.Millisecond || took > 2*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(stop) })
	if err := (&Policy{Patience: time.Minute}).Do(ctx, func(context.Context, bool) error { return away }); !errors.Is(err, stop) {
		t.Errorf("cancelled: %v", err)
	}
	hasty, over := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer over()
	err = (&Policy{Patience: time.Minute}).Do(hasty, func(context.Context, bool) error { return away })
	if !errors.Is(err, away) || !fault.Is(err, fault.Connection) || fault.HintOf(err) != fault.HintOf(away) {
		t.Errorf("at a deadline: %v", err)
	}
}
