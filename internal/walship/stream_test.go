package walship_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/walship"
)

const name = "000000010000000000000001"

type member struct {
	name, text string
	kind       byte
}

func stream(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Size: int64(len(m.text)), Mode: 0o600, Typeflag: m.kind, ModTime: time.Unix(1795000000, 0)}
		if m.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag != tar.TypeReg {
			h.Size, h.Linkname = 0, "/etc/passwd"
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, m.text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sha(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

// unpack returns what was delivered, and makes sure that the spool is empty.
func unpack(t *testing.T, data []byte) (map[string]string, error) {
	t.Helper()
	dir, got := t.TempDir(), map[string]string{}
	_, err := walship.Unpack(t.Context(), bytes.NewReader(data), dir, func(path, name string) error {
		text, err := os.ReadFile(path)
		got[name] = string(text)
		return err
	})
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("the spool has %v", left)
	}
	return got, err
}

func TestWhatIsPackedArrives(t *testing.T) {
	path := filepath.Join(t.TempDir(), name)
	text := strings.Repeat("wal ", 100_000)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := walship.Pack(t.Context(), &b, path); err != nil {
		t.Fatal(err)
	}
	got, err := unpack(t, b.Bytes())
	if err != nil || got[name] != text {
		t.Errorf("%d bytes, %v", len(got[name]), err)
	}
	// Nothing is delivered of a stream that ends too early, wherever it does.
	for _, end := range []int{0, 1, 511, 512, 1000, len(text), b.Len() - 2048} {
		if got, err := unpack(t, b.Bytes()[:end]); err == nil || len(got) > 0 {
			t.Errorf("after %d bytes: %d files, %v", end, len(got), err)
		}
	}
}

func TestStreams(t *testing.T) {
	file := member{name: name, text: "content"}
	sums := member{name: "SHA256SUMS", text: sha("content") + " *" + name + "\n"}
	label := member{name: name + ".00000028.backup", text: "START\n"}
	for what, c := range map[string]struct {
		members []member
		files   int
		says    string // of the error
		kind    fault.Kind
	}{
		"Barman's order":       {members: []member{file, sums}, files: 1},
		"the other order":      {members: []member{sums, file}, files: 1},
		"MD5":                  {members: []member{file, {name: "MD5SUMS", text: fmt.Sprintf("%x *%s\n", md5.Sum([]byte("content")), name)}}, files: 1},
		"upper case, a blank":  {members: []member{file, {name: "SHA256SUMS", text: strings.ToUpper(sha("content")) + "  " + name + "\n"}}, files: 1},
		"two files":            {members: []member{file, label, {name: "SHA256SUMS", text: sums.text + sha("START\n") + " *" + label.name + "\n"}}, files: 2},
		"no checksum":          {members: []member{file}, says: "no checksum", kind: fault.Corrupt},
		"that of another":      {members: []member{file, {name: "SHA256SUMS", text: sha("content") + " *other\n"}}, says: "no checksum", kind: fault.Corrupt},
		"one of two is wrong":  {members: []member{file, label, {name: "SHA256SUMS", text: sums.text + sha("x") + " *" + label.name + "\n"}}, says: "what arrived", kind: fault.Corrupt},
		"two lists, one wrong": {members: []member{file, sums, {name: "MD5SUMS", text: "00 *" + name + "\n"}}, says: "what arrived", kind: fault.Corrupt},
		"a bad list":           {members: []member{file, {name: "SHA256SUMS", text: "nonsense\n"}}, says: "nonsense", kind: fault.Corrupt},
		"nothing":              {says: "no WAL file", kind: fault.Corrupt},
		"only a list":          {members: []member{sums}, says: "no WAL file", kind: fault.Corrupt},
		"another name":         {members: []member{{name: "postgresql.conf", text: "x"}}, says: "postgresql.conf", kind: fault.Usage},
		"a way out":            {members: []member{{name: "../" + name, text: "x"}}, says: "../", kind: fault.Usage},
		"a link":               {members: []member{{name: name, kind: tar.TypeSymlink}}, says: "regular", kind: fault.Usage},
		"a directory":          {members: []member{{name: name, kind: tar.TypeDir}}, kind: fault.Usage},
		"an empty file":        {members: []member{{name: name}}, says: "0 bytes", kind: fault.Usage},
	} {
		got, err := unpack(t, stream(t, c.members...))
		if c.kind == "" && (err != nil || len(got) != c.files) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
		if c.kind != "" && (!fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) || len(got) > 0) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	if _, err := unpack(t, []byte("this is no tar stream, and never was one")); !fault.Is(err, fault.Corrupt) {
		t.Error(err)
	}
	stop := errors.New("full")
	if names, err := walship.Unpack(t.Context(), bytes.NewReader(stream(t, file, sums)), t.TempDir(), func(string, string) error { return stop }); !errors.Is(err, stop) || len(names) > 0 {
		t.Error(names, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := walship.Unpack(ended, bytes.NewReader(stream(t, file, sums)), t.TempDir(), nil); err == nil {
		t.Error("it goes on although it was interrupted")
	}
}

func TestHostsAreNoOptions(t *testing.T) {
	for _, host := range []string{"", "-oProxyCommand=x", "a b"} {
		if err := (walship.Host{Destination: host}).Check(); !fault.Is(err, fault.Usage) {
			t.Errorf("%q: %v", host, err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(stream(f, member{name: name, text: "content"}, member{name: "SHA256SUMS", text: sha("content") + " *" + name + "\n"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = walship.Unpack(t.Context(), bytes.NewReader(data), t.TempDir(), func(string, string) error { return nil })
	})
}
