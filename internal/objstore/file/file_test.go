package file_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// TestNothingIsForgotten: whatever of a store is killed, what it leaves is listed, and gone once it is aborted.
func TestNothingIsForgotten(t *testing.T) {
	if dir := os.Getenv("HOLDFAST_TEST_STORE"); dir != "" {
		toil(t, open(t, dir, &objstore.Policy{}))
		return
	}
	dir := t.TempDir()
	s := open(t, dir, &objstore.Policy{})
	if _, err := s.Put(t.Context(), "old", strings.NewReader(strings.Repeat("x", 8<<20)), objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	listed := 0
	for range 12 {
		child := exec.Command(os.Args[0], "-test.run", "^TestNothingIsForgotten$")
		child.Env = append(os.Environ(), "HOLDFAST_TEST_STORE="+dir)
		out, err := child.StdoutPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // it is at work
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // it was killed
		many := s.(objstore.Multipart)
		for u, err := range many.Uploads(t.Context(), "new/") {
			if err == nil {
				listed++
				err = many.Abort(t.Context(), u)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		err = filepath.WalkDir(filepath.Join(dir, ".holdfast-store"), func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && e.Name() != "key" {
				t.Errorf("%s is left", path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if listed == 0 {
		t.Error("nothing was killed in the middle")
	}
}

// toil makes objects until it is killed.
func toil(t *testing.T, s objstore.Store) {
	many := s.(objstore.Multipart)
	for i := 0; ; i++ {
		u, err := many.Begin(t.Context(), "new/parts")
		if err != nil {
			t.Fatal(err)
		}
		var parts []objstore.Part
		for number := range 20 {
			p, err := many.PutPart(t.Context(), u, number+1, make([]byte, 100_000))
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, p)
		}
		if i%2 == 0 {
			_, err = many.Complete(t.Context(), u, parts, objstore.PutOptions{})
		} else {
			err = many.Abort(t.Context(), u)
		}
		if err == nil {
			_, err = s.(objstore.Copier).Copy(t.Context(), "old", "new/copy")
		}
		if err == nil {
			_, err = os.Stdout.WriteString(".")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestPartsAreOurs: nobody else may write what becomes an object.
func TestPartsAreOurs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, &objstore.Policy{}).(objstore.Multipart)
	u, err := s.Begin(t.Context(), "x")
	if err == nil {
		_, err = s.PutPart(t.Context(), u, 1, []byte("x"))
	}
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		st, err := e.Info()
		if err == nil && e.Name() != "key" && st.Mode()&0o077 != 0 {
			t.Errorf("%s: %s", path, st.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheForgottenIsSwept: what was killed before it had a key is removed a day later.
func TestTheForgottenIsSwept(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, &objstore.Policy{}).(objstore.Multipart)
	making := filepath.Join(dir, ".holdfast-store")
	old, fresh := filepath.Join(making, ".holdfast-tmp-OLD"), filepath.Join(making, ".holdfast-tmp-FRESH")
	crashed, empty := filepath.Join(making, "upload-CRASHED"), filepath.Join(making, "upload-EMPTY")
	for _, d := range []string{making, crashed, empty} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	foreign := filepath.Join(making, "README")
	for _, f := range []string{old, fresh, foreign, filepath.Join(crashed, "key")} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ago := time.Now().Add(-25 * time.Hour)
	for _, f := range []string{old, crashed, foreign} {
		if err := os.Chtimes(f, ago, ago); err != nil {
			t.Fatal(err)
		}
	}
	for u, err := range s.Uploads(t.Context(), "") {
		t.Errorf("%v, %v", u, err)
	}
	entries, err := os.ReadDir(making)
	if err != nil || len(entries) != 2 || entries[0].Name() != filepath.Base(fresh) || entries[1].Name() != filepath.Base(foreign) {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestAPipeIsNoObject: reading one would wait for a writer that never comes.
func TestAPipeIsNoObject(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, &objstore.Policy{})
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, _, err := s.Get(t.Context(), "pipe", objstore.Whole())
		done <- err
	}()
	select {
	case err := <-done:
		if !fault.Is(err, fault.NotFound) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it waits")
	}
}
