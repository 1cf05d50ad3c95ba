package receipt_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/receipt"
)

func TestOnlyAWholeReceiptIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "receipt")
	if _, whole := receipt.Read(path); whole {
		t.Error("one that is missing was read")
	}
	for _, fields := range [][]string{nil, {""}, {"end"}, {"a", "", "b\nc 'd'", "end"}} {
		text := receipt.Text(fields)
		for n := range len(text) + 1 {
			if err := os.WriteFile(path, text[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			got, whole := receipt.Read(path)
			if n == len(text) && !(whole && slices.Equal(got, fields)) {
				t.Errorf("%q became %q, %v", fields, got, whole)
			}
			if n < len(text) && whole && slices.Equal(got, fields) {
				t.Errorf("%q is whole with %d of %d bytes", fields, n, len(text))
			}
		}
	}
}

// TestWhatIsNoReceipt is neither waited for nor read into memory.
func TestWhatIsNoReceipt(t *testing.T) {
	whole := string(receipt.Text([]string{"a"}))
	for what, make := range map[string]func(path string) error{
		"a pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a link": func(path string) error {
			return errors.Join(os.WriteFile(path+"x", []byte(whole), 0o600), os.Symlink(path+"x", path))
		},
		"one without end": func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(whole), 0o600), os.Truncate(path, 1<<40))
		},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "receipt")
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			if fields, whole := receipt.Read(path); whole {
				t.Errorf("it was read: %q", fields)
			}
		})
	}
}
