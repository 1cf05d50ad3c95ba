//go:build integration

package gpg

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// keys makes a key, and returns the keys of a server that uses it.
func keys(t *testing.T, script string) *Keys {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg") // a short name: its sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	endAgent := func() {
		if out, err := exec.Command("gpgconf", "--homedir", home, "--kill", "all").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	t.Cleanup(func() {
		endAgent()
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(home, "gpg-agent.conf"), []byte("default-cache-ttl 0\nmax-cache-ttl 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", home)
	if out, err := exec.Command("gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "geheim", "--quick-generate-key", "a key <one@example.org>", "future-default").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	endAgent() // it knows the passphrase
	return of(t, "one@example.org", script)
}

func of(t *testing.T, key, script string) *Keys {
	t.Helper()
	path := filepath.Join(t.TempDir(), "conf")
	text := "[barman]\nbarman_home = /x\n[main]\nconninfo = host=x\nbackup_method = postgres\nbackup_compression = none\nbackup_compression_format = tar\nencryption = gpg\nencryption_key_id = " + key + "\nencryption_passphrase_command = " + script + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Server("main")
	if err != nil {
		t.Fatal(err)
	}
	return Of(s)
}

func sealed(t *testing.T, k *Keys, clear []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := k.NewWriter(context.Background(), &out)
	if err == nil {
		_, err = w.Write(clear)
	}
	if cerr := w.Close(); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	return out.Bytes()
}

func opened(k *Keys, stored []byte) ([]byte, error) {
	r, err := k.NewReader(context.Background(), bytes.NewReader(stored))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestRoundTrip(t *testing.T) {
	k := keys(t, "echo geheim")
	if err := k.Try(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 16 << 20} {
		clear := bytes.Repeat([]byte{7}, size)
		stored := sealed(t, k, clear)
		if !Detect(stored) {
			t.Errorf("%d bytes: % x is not recognised", size, stored[:16])
		}
		if size > 0 && len(stored) < size {
			t.Errorf("%d bytes became %d: gpg compresses", size, len(stored))
		}
		if got, err := opened(k, stored); err != nil || !bytes.Equal(got, clear) {
			t.Errorf("%d bytes became %d: %v", size, len(got), err)
		}
	}
	stored := sealed(t, k, bytes.Repeat([]byte{7}, 1<<20))
	for name, damaged := range map[string][]byte{"cut": stored[:len(stored)/2], "changed": append(append(bytes.Clone(stored[:1<<19]), stored[1<<19]^1), stored[1<<19+1:]...)} {
		if _, err := opened(k, damaged); !fault.Is(err, fault.Corrupt) || IsLocked(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Who has read enough leaves nothing running.
	r, err := k.NewReader(context.Background(), bytes.NewReader(sealed(t, k, make([]byte, 8<<20))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if children, err := os.ReadFile("/proc/thread-self/children"); err == nil && len(bytes.TrimSpace(children)) > 0 {
		t.Errorf("children: %s", children)
	}
}

func TestWhoCannotOpen(t *testing.T) {
	stored := sealed(t, keys(t, "echo geheim"), []byte("rows"))
	for script, kind := range map[string]fault.Kind{"": fault.Refused, "echo wrong": fault.Refused, "echo wrong; exit 1": fault.Config, "true": fault.Config} {
		_, err := opened(of(t, "one@example.org", script), stored)
		if !fault.Is(err, kind) || fault.HintOf(err) == "" || IsLocked(err) != (kind == fault.Refused) || strings.Contains(err.Error(), "wrong") {
			t.Errorf("%q: %v", script, err)
		}
	}
	if err := of(t, "nobody@example.org", "").Try(context.Background()); !fault.Is(err, fault.Tool) || !strings.Contains(fault.HintOf(err), "nobody@example.org") {
		t.Error(err)
	}
	// A key that can only sign; nobody looks for a better one in the network.
	if out, err := exec.Command("gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", "signer@example.org", "ed25519", "sign").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := of(t, "signer@example.org", "").Try(context.Background()); !fault.Is(err, fault.Tool) || !strings.Contains(err.Error(), "Unusable public key") || !strings.Contains(fault.HintOf(err), "can encrypt") {
		t.Errorf("%v (%s)", err, fault.HintOf(err))
	}
	keys(t, "") // another keyring
	if _, err := opened(of(t, "one@example.org", "echo geheim"), stored); !IsLocked(err) {
		t.Error(err)
	}
}
