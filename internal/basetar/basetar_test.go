package basetar_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

var suffixes = map[string]string{"none": "", "gzip": ".gz", "lz4": ".lz4", "zstd": ".zst"}

type file struct{ name, content string }

// noise does not compress, and is larger than all buffers together.
var noise = func() string {
	b := make([]byte, 5<<18)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}()

func archive(t *testing.T, compression string, files ...file) []byte {
	t.Helper()
	c, err := codec.New(compression, "low")
	check(t, err)
	var out bytes.Buffer
	z, err := c.NewWriter(&out)
	check(t, err)
	w := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.content)), Mode: 0o600}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o700
		}
		check(t, w.WriteHeader(h))
		_, err := io.WriteString(w, f.content)
		check(t, err)
	}
	check(t, w.Close())
	check(t, z.Close())
	return out.Bytes()
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// place writes base.tar with the suffix of a compression, and finds it.
func place(t *testing.T, compression string, content []byte) *basetar.Set {
	t.Helper()
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "base.tar"+suffixes[compression]), content, 0o600))
	set, err := basetar.Find(dir, nil)
	check(t, err)
	return set
}

func read(a basetar.Archive) (got []file, compressed int64, err error) {
	err = a.Each(context.Background(), func(n int64) { compressed += n }, func(m basetar.Member) error {
		b, err := io.ReadAll(m)
		got = append(got, file{m.Name, string(b)})
		return err
	})
	return got, compressed, err
}

func TestMembersOfEveryCompression(t *testing.T) {
	files := []file{{"backup_label", "START"}, {"base/", ""}, {"base/1/2", noise}, {"global/pg_control", "c"}, {"\xff\n\"", ""}}
	want := slices.Clone(files)
	want[1].name = "base"
	for compression := range suffixes {
		content := archive(t, compression, files...)
		set := place(t, compression, content)
		if set.Compression() != compression {
			t.Errorf("%s was taken for %s", compression, set.Compression())
		}
		got, n, err := read(set.Base)
		if err != nil || !slices.Equal(got, want) || n != int64(len(content)) {
			t.Errorf("%s: %d members, %d bytes of %d, %v", compression, len(got), n, len(content), err)
		}
		if label, err := set.Label(context.Background()); err != nil || label != "START" {
			t.Errorf("%s: label %q, %v", compression, label, err)
		}
	}
}

// The label comes first: what follows need not even be readable.
func TestLabelIsReadWithoutTheRest(t *testing.T) {
	for compression := range suffixes {
		// lz4 packs four MiB at a time.
		content := archive(t, compression, file{"backup_label", "START"}, file{"base/1/2", strings.Repeat("\x00", 4<<20)}, file{"base/1/3", noise})
		label, err := place(t, compression, content[:len(content)/2]).Label(context.Background())
		if err != nil || label != "START" {
			t.Errorf("%s: %q, %v", compression, label, err)
		}
		if _, err := place(t, compression, archive(t, compression, file{"base/1/2", ""})).Label(context.Background()); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s without a label: %v", compression, err)
		}
	}
}

func TestDamageIsFound(t *testing.T) {
	files := []file{{"backup_label", "START"}, {"base/1/2", noise}}
	for compression, suffix := range suffixes {
		whole := archive(t, compression, files...)
		flipped := slices.Clone(whole)
		flipped[len(flipped)/2] ^= 1
		for what, content := range map[string][]byte{"cut": whole[:len(whole)/2], "cut by a byte": whole[:len(whole)-1], "flipped": flipped,
			"of another kind": []byte("no archive at all, however it is looked at"), "the name of another compression": archive(t, map[string]string{"gzip": "zstd"}[compression], files...)} {
			if compression == "none" && (what == "flipped" || what == "cut by a byte" || what == "the name of another compression") {
				continue // a tar has no checksum, the manifest has; and zeros at its end mean nothing
			}
			_, _, err := read(place(t, compression, content).Base)
			if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "base.tar"+suffix) || fault.HintOf(err) == "" {
				t.Errorf("%s, %s: %v", compression, what, err)
			}
		}
	}
}

func TestNamesStayBelowTheDirectory(t *testing.T) {
	for _, name := range []string{"../x", "/etc/x", "a/../../x"} {
		if _, _, err := read(place(t, "none", archive(t, "none", file{name, "x"})).Base); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, _, err := read(place(t, "none", archive(t, "none", file{"./", ""}, file{"./a/./b", "x"})).Base)
	if err != nil || !slices.Equal(got, []file{{"a/b", "x"}}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestTheVisitorEndsTheReading(t *testing.T) {
	a := place(t, "zstd", archive(t, "zstd", file{"a", noise}, file{"b", noise})).Base
	mine := errors.New("mine")
	for give, want := range map[error]error{mine: mine, fs.SkipAll: nil} {
		visits := 0
		err := a.Each(context.Background(), nil, func(basetar.Member) error { visits++; return give })
		if !errors.Is(err, want) || visits != 1 {
			t.Errorf("%v: %d visits, %v", give, visits, err)
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	err := a.Each(ctx, nil, func(m basetar.Member) error {
		cancel(mine)
		_, err := io.Copy(io.Discard, m)
		return err
	})
	if !errors.Is(err, mine) || fault.Is(err, fault.Corrupt) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		names, want string
	}{
		{"base.tar backup_manifest", "none [0]  [backup_manifest]"},
		{"base.tar.zst 16384.tar.zst 4294967295.tar.zst 4294967296.tar 0.tar x", "zstd [0 16384 4294967295]  [0.tar 4294967296.tar x]"},
		{"PG_VERSION base.tar", "plain"},
		{"x", "plain"},
		{"base.tar base.tar.gz", "holds the same"},
		{"base.tar 7.tar.gz 7.tar", "holds the same"},
		{"7.tar", "no base.tar"},
	} {
		dir := t.TempDir()
		for _, name := range strings.Fields(c.names) {
			check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		}
		set, err := basetar.Find(dir, nil)
		got := "plain"
		switch {
		case err != nil:
			got = err.Error()
		case set != nil:
			var oids []uint32
			for _, a := range set.All() {
				oids = append(oids, a.OID)
			}
			slices.Sort(oids)
			got = fmt.Sprintf("%s %v  %v", set.Compression(), oids, set.Others)
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %s", c.names, got)
		}
	}
	if _, err := basetar.Find(filepath.Join(t.TempDir(), "none"), nil); err == nil {
		t.Error("a directory that is not there was read")
	}
}
