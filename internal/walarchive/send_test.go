package walarchive_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

func TestSend(t *testing.T) {
	b := newBench(t, "zstd", mib)
	b.archive(t, seg1)
	want := segment(t, seg1, mib, seg1)
	stored, err := os.ReadFile(b.Path(seg1))
	if err != nil {
		t.Fatal(err)
	}
	gunzip := func(p []byte) []byte {
		z, err := gzip.NewReader(bytes.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var out bytes.Buffer
	for name, c := range map[string]struct {
		form walarchive.Form
		want []byte
		read func([]byte) []byte
	}{
		"expanded":  {walarchive.Form{}, want, bytes.Clone},
		"as stored": {walarchive.Form{AsStored: true}, stored, bytes.Clone},
		"gzip":      {walarchive.Form{NewWriter: func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }}, want, gunzip},
	} {
		out.Reset()
		if err := b.Send(t.Context(), seg1, &out, c.form); err != nil || !bytes.Equal(c.read(out.Bytes()), c.want) {
			t.Errorf("%s: %v, %d bytes", name, err, out.Len())
		}
	}

	out.Reset()
	if err := b.Send(t.Context(), seg2, &out, walarchive.Form{Partial: true}); !fault.Is(err, fault.NotFound) || out.Len() > 0 {
		t.Errorf("%v, %d bytes", err, out.Len())
	}
	partial := segment(t, seg2, mib, "y")
	if err := os.WriteFile(filepath.Join(b.l.StreamingDir, seg2+".partial"), partial, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Send(t.Context(), seg2, &out, walarchive.Form{}); !fault.Is(err, fault.NotFound) || out.Len() > 0 {
		t.Errorf("%v, %d bytes", err, out.Len())
	}
	if err := b.Send(t.Context(), seg2, &out, walarchive.Form{Partial: true}); err != nil || !bytes.Equal(out.Bytes(), partial) {
		t.Errorf("%v, %d bytes", err, out.Len())
	}

	// Of what is cut short nothing is sent.
	if err := os.Truncate(b.Path(seg1), int64(len(stored)/2)); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := b.Send(t.Context(), seg1, &out, walarchive.Form{AsStored: true}); !fault.Is(err, fault.Corrupt) || out.Len() > 0 {
		t.Errorf("%v, %d bytes", err, out.Len())
	}
}

func TestFollowing(t *testing.T) {
	b := newBench(t, "", mib)
	if size, err := b.SegmentSize(t.Context()); err != nil || size != 0 {
		t.Errorf("%d, %v", size, err)
	}
	const far = "000000010000000000000009"
	b.archive(t, seg1, seg2, far)
	for from, want := range map[string][]string{seg1: {seg1, seg2}, seg2: {seg2}, seg3: nil, far: {far}} {
		if got, err := b.Following(t.Context(), from, 2, mib); err != nil || !slices.Equal(got, want) {
			t.Errorf("from %s: %v, %v", from, got, err)
		}
	}
	if got, err := b.Following(t.Context(), seg1, 1, mib); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if size, err := b.SegmentSize(t.Context()); err != nil || size != mib {
		t.Errorf("%d, %v", size, err)
	}
}
