package walarchive_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

func TestVerify(t *testing.T) {
	for _, compression := range []string{"", "lz4"} {
		b := newBench(t, compression, mib)
		b.archive(t, seg1, seg2, seg3)
		v, err := b.Verify(t.Context(), seg1, seg3, mib, systemID)
		if err != nil || v.Segments != 3 || v.Bytes != 3*mib {
			t.Errorf("%+v, %v", v, err)
		}
		if _, err := b.Verify(t.Context(), seg1, seg3, mib, 7); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "another cluster") {
			t.Errorf("%v", err)
		}
		if _, err := b.Verify(t.Context(), seg3, seg1, mib, 0); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%v", err)
		}
		if _, err := b.Verify(t.Context(), seg1, "000000010000000000000004", mib, 0); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "000000010000000000000004") {
			t.Errorf("%v", err)
		}
		st, err := os.Stat(b.Path(seg2))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(b.Path(seg2), st.Size()/2); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Verify(t.Context(), seg1, seg3, mib, systemID); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), seg2) {
			t.Errorf("%v", err)
		}
	}
}

// Timeline 2 begins within segment 3 of timeline 1, whose complete form exists
// on timeline 2 only.
func TestVerifyFollowsTheHistory(t *testing.T) {
	b := newBench(t, "gzip", mib)
	const seg3of2, seg4of2 = "000000020000000000000003", "000000020000000000000004"
	b.archive(t, seg1, seg2, seg3+".partial", seg3of2, seg4of2)
	if _, err := b.Verify(t.Context(), seg1, seg4of2, mib, systemID); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "00000002.history") {
		t.Errorf("without the history: %v", err)
	}
	path := b.write(t, "00000002.history", fmt.Appendf(nil, "1\t0/%X\tno recovery target specified\n", 3*mib+500))
	if err := b.Archive.Archive(t.Context(), path, "00000002.history"); err != nil {
		t.Fatal(err)
	}
	for _, begin := range []string{seg1, seg3} {
		v, err := b.Verify(t.Context(), begin, seg4of2, mib, systemID)
		if want := map[string]int{seg1: 4, seg3: 2}[begin]; err != nil || v.Segments != want {
			t.Errorf("%s: %+v, %v", begin, v, err)
		}
	}
	if _, err := b.Verify(t.Context(), "000000010000000000000004", "000000020000000000000005", mib, 0); !fault.Is(err, fault.Corrupt) {
		t.Errorf("from a part of timeline 1 that was left: %v", err)
	}
	arch, err := b.ForRestore(t.Context())
	if err != nil || len(arch.Files) != 6 || len(arch.Histories) != 1 || len(arch.Histories[2].Switches) != 1 {
		t.Errorf("%+v, %v", arch, err)
	}
}

// Fault 9 of the reference: a newer timeline hides the WAL of an older one, and
// another compression hides all that was stored before.
func TestMissingKnowsEachTimelineAndCompression(t *testing.T) {
	const seg2of2, seg3of2 = "000000020000000000000002", "000000020000000000000003"
	b := newBench(t, "gzip", mib)
	b.archive(t, seg1, seg2)
	c, err := codec.New("zstd", "low")
	if err != nil {
		t.Fatal(err)
	}
	b.Archive = walarchive.Open(b.l, walarchive.Options{Compression: c, SegmentSize: mib})
	b.archive(t, seg2of2, seg3of2)
	for _, ends := range [][2]string{{seg1, seg2}, {seg2of2, seg3of2}} {
		if missing, err := b.Missing(t.Context(), ends[0], ends[1], mib); err != nil || len(missing) > 0 {
			t.Errorf("%v: %v, %v", ends, missing, err)
		}
	}
	if missing, err := b.Missing(t.Context(), seg1, seg3, mib); err != nil || len(missing) != 1 || missing[0] != seg3 {
		t.Errorf("%v, %v", missing, err)
	}
}
