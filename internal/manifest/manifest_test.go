package manifest_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
)

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func entry(path, content string, a manifest.Algorithm) manifest.File {
	f := manifest.File{Path: path, Size: int64(len(content)), Modified: time.Date(2026, 11, 23, 2, 35, 6, 0, time.UTC), Algorithm: a}
	if h := a.New(); h != nil {
		h.Write([]byte(content))
		f.Checksum = h.Sum(nil)
	}
	return f
}

func encode(t testing.TB, systemID uint64, ranges []manifest.WALRange, files ...manifest.File) (string, manifest.Summary) {
	t.Helper()
	var b bytes.Buffer
	w := manifest.NewWriter(&b, systemID)
	for _, f := range files {
		if err := w.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	s, err := w.Close(ranges)
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), s
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	files := []manifest.File{entry("PG_VERSION", "18\n", manifest.SHA256), entry("base/1/a\"b\\<ü>", "", manifest.CRC32C), entry("base/1/\xff\n", "x", manifest.None),
		entry("pg_tblspc/16384/PG_18/1", "y", manifest.SHA512)}
	for _, systemID := range []uint64{0, 7711189373537911368} {
		ranges := []manifest.WALRange{{Timeline: 1, Start: "0/C000028", End: "0/C000120"}}
		text, want := encode(t, systemID, ranges, files...)
		var got []manifest.File
		s, err := manifest.Read(strings.NewReader(text), "m", func(f manifest.File) error { got = append(got, f); return nil })
		if err != nil || !reflect.DeepEqual(got, files) {
			t.Errorf("%v\n%v\n%v", err, got, files)
		}
		if !reflect.DeepEqual(s, want) || s.Files != 4 || s.Bytes != 5 || s.WAL[0] != ranges[0] || s.SystemID != systemID {
			t.Errorf("%+v\n%+v", s, want)
		}
	}
}

// CRC-32C of "123456789" is E3069283; PostgreSQL prints the bytes as they lie in memory.
func TestCRC32C(t *testing.T) {
	h := manifest.CRC32C.New()
	h.Write([]byte("123456789"))
	if got := hex.EncodeToString(h.Sum(nil)); got != "839206e3" {
		t.Error(got)
	}
}

// The form that Barman writes: other order of keys, no zone, no WAL-Ranges.
func TestBarmansForm(t *testing.T) {
	body := "{\"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n" +
		`{"Checksum": "` + strings.Repeat("00", 32) + `", "Checksum-Algorithm": "SHA256", "Last-Modified": "2026-11-23 02:35:06", "Path": "a", "Size": 7}` + "\n],\n"
	n := 0
	if _, err := manifest.Read(strings.NewReader(seal(body)), "m", func(f manifest.File) error { n += int(f.Size); return nil }); err != nil || n != 7 {
		t.Errorf("%d, %v", n, err)
	}
}

func seal(body string) string {
	h := manifest.SHA256.New()
	h.Write([]byte(body))
	return body + fmt.Sprintf("\"Manifest-Checksum\": \"%x\"}\n", h.Sum(nil))
}

func TestDamageIsNoticed(t *testing.T) {
	good, _ := encode(t, 7, nil, entry("a", "x", manifest.SHA256), entry("b", "y", manifest.SHA256))
	none := func(manifest.File) error { return nil }
	for name, text := range map[string]string{
		"empty":         "",
		"cut":           good[:len(good)/2],
		"a byte":        strings.Replace(good, `"b"`, `"c"`, 1),
		"no checksum":   good[:strings.Index(good, "\n],\n")] + "\n]}\n",
		"not JSON":      "hello\n",
		"version":       seal("{\"PostgreSQL-Backup-Manifest-Version\": 3,\n\"Files\": [],\n"),
		"unknown key":   seal("{\"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [], \"X\": 1,\n"),
		"twice":         seal("{\"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [], \"Files\": [],\n"),
		"outside":       seal("{\"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [{\"Path\": \"../x\", \"Size\": 1}],\n"),
		"absolute":      seal("{\"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [{\"Path\": \"/x\", \"Size\": 1}],\n"),
		"no size":       seal("{\"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [{\"Path\": \"x\"}],\n"),
		"algorithm":     seal("{\"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [{\"Path\": \"x\", \"Size\": 1, \"Checksum-Algorithm\": \"MD5\", \"Checksum\": \"00\"}],\n"),
		"short sum":     seal("{\"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [{\"Path\": \"x\", \"Size\": 1, \"Checksum-Algorithm\": \"SHA256\", \"Checksum\": \"00\"}],\n"),
		"a long line":   "{\"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [" + strings.Repeat(" ", 1<<17) + "],\n",
		"more after it": good + "{}\n",
	} {
		if _, err := manifest.Read(strings.NewReader(text), "/b/backup_manifest", none); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "/b/backup_manifest") {
			t.Errorf("%s: %v", name, err)
		}
	}
	stop := fmt.Errorf("stop")
	if _, err := manifest.Read(strings.NewReader(good), "m", func(manifest.File) error { return stop }); err != stop {
		t.Errorf("%v", err)
	}
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	data, space, m := dir+"/data", dir+"/16384", dir+"/m"
	contents := map[string]string{"PG_VERSION": "18\n", "base/1/1": strings.Repeat("x", 3<<20), "base/1/2": "two", "pg_tblspc/16384/PG_18/1": "in a tablespace"}
	var files []manifest.File
	for path, content := range contents {
		files = append(files, entry(path, content, manifest.SHA256))
		write(t, filepath.Join(data, path), content)
	}
	// The tablespace lies elsewhere; a link in its place must not be followed.
	if err := os.Rename(data+"/pg_tblspc/16384", space); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere", data+"/pg_tblspc/16384"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"backup_manifest", "pg_wal/000000010000000000000001", "postgresql.auto.conf", "recovery.signal", "backup_label"} {
		write(t, filepath.Join(data, path), "not listed")
	}
	text, want := encode(t, 0, nil, files...)
	write(t, m, text)
	var read int64
	dirs := manifest.Dirs{Data: data, Tablespaces: map[uint32]string{16384: space}}
	verify := func() manifest.Report {
		t.Helper()
		r, err := manifest.Verify(t.Context(), m, dirs, manifest.Options{Jobs: 1, Ignore: []string{"backup_label"}, Progress: func(n int64) { read += n }})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := verify(); r.Err("20260101T000000") != nil || r.Summary.SHA256 != want.SHA256 || read != want.Bytes {
		t.Errorf("%v, %d bytes read", r.Err("20260101T000000"), read)
	}
	write(t, data+"/base/1/1", strings.Repeat("x", 3<<20-1)+"y")
	write(t, data+"/base/1/2", "three")
	write(t, data+"/base/1/3", "extra")
	write(t, space+"/extra", "extra")
	if err := os.Remove(data + "/PG_VERSION"); err != nil {
		t.Fatal(err)
	}
	r := verify()
	var got []string
	for _, f := range r.Findings {
		got = append(got, f.Path+": "+strings.SplitN(f.Reason, ":", 2)[0])
	}
	wanted := []string{"PG_VERSION: missing", "base/1/1: other content", "base/1/2: 5 bytes instead of 3", "base/1/3: extra", "pg_tblspc/16384/extra: extra"}
	if r.Bad != 5 || !reflect.DeepEqual(got, wanted) {
		t.Errorf("%q", got)
	}
	if err := r.Err("20260101T000000"); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "base/1/2 (5 bytes instead of 3)") {
		t.Errorf("%v", err)
	}
	write(t, m, text[:len(text)-20])
	if _, err := manifest.Verify(t.Context(), m, dirs, manifest.Options{}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("%v", err)
	}
	if _, err := manifest.Verify(t.Context(), dir+"/none", dirs, manifest.Options{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
}

func FuzzRead(f *testing.F) {
	text, _ := encode(f, 7, []manifest.WALRange{{Timeline: 1, Start: "0/1", End: "0/2"}}, entry("a", "x", manifest.SHA256), entry("b\xff", "", manifest.None))
	f.Add(text)
	f.Add(seal("{\"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [],\n"))
	f.Fuzz(func(t *testing.T, text string) {
		var files []manifest.File
		read := func(text string) error {
			files = nil
			_, err := manifest.Read(strings.NewReader(text), "m", func(f manifest.File) error { files = append(files, f); return nil })
			return err
		}
		// Seal what the fuzzer makes of the body, so that more than the checksum is tried.
		if i := strings.LastIndex(text, "\"Manifest-Checksum\""); i >= 0 {
			text = seal(text[:i])
		}
		if read(text) != nil {
			return
		}
		before := files
		again, _ := encode(t, 0, nil, files...)
		if err := read(again); err != nil || !reflect.DeepEqual(before, files) {
			t.Errorf("%v\n%v\n%v", err, before, files)
		}
	})
}
