package receipt_test

import (
	"os"
	"path/filepath"
	"slices"
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
