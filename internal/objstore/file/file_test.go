package file_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/file"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
)

func at(dir string) objstore.Location {
	return objstore.Location{Provider: objstore.File, Bucket: dir}
}

func open(t *testing.T, dir string, p *objstore.Policy) objstore.Store {
	t.Helper()
	s, err := file.Open(at(dir), p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	storetest.Suite{
		Open:      func(t *testing.T, p *objstore.Policy) objstore.Store { return open(t, dir, p) },
		Abilities: []string{"multipart", "copy", "range copy"},
		Keys:      500, // a directory has no pages
	}.Run(t)
	s := open(t, dir, &objstore.Policy{})
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), o.Key); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, says := range map[string]string{"absent": "does not exist", "f": "not a directory"} {
		if _, err := file.Open(at(filepath.Join(dir, name)), &objstore.Policy{}); !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), says) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := open(t, dir, &objstore.Policy{})
	for _, key := range []string{"f/x", ".holdfast-store/x", strings.Repeat("x", 256), ".holdfast-tmp-x"} {
		if _, err := s.Put(t.Context(), key, strings.NewReader("x"), objstore.PutOptions{}); err == nil || fault.HintOf(err) == "" || fault.KindOf(err).Retryable() {
			t.Errorf("%s: %v (%s)", key, err, fault.HintOf(err))
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "x", strings.NewReader("x"), objstore.PutOptions{}); !fault.Is(err, fault.Config) {
		t.Errorf("the directory is gone: %v", err)
	}
	for _, err := range s.List(t.Context(), "") {
		if !fault.Is(err, fault.Config) {
			t.Errorf("the directory is gone: %v", err)
		}
	}
}
