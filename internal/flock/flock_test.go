package flock_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/flock"
)

func TestOwnerIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".main-backup.lock")
	l, err := flock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st, err)
	}
	if text, _ := os.ReadFile(path); string(text) != fmt.Sprintf("%d\n", os.Getpid()) {
		t.Errorf("the file says %q", text)
	}
	_, err = flock.Try(path)
	if !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), fmt.Sprintf("process %d (flock.test)", os.Getpid())) {
		t.Errorf("%v", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := flock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
}

func TestAChildKeepsTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	l, err := flock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sleep", "60")
	child.ExtraFiles = []*os.File{l.File()}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	l.Release()
	if _, err := flock.Try(path); !fault.Is(err, fault.Refused) {
		t.Errorf("%v", err)
	}
	child.Process.Kill()
	_ = child.Wait()
	l, err = flock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
}

func TestWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	l, err := flock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := flock.Wait(ctx, path); !fault.Is(err, fault.Refused) {
		t.Errorf("%v", err)
	}
	time.AfterFunc(20*time.Millisecond, func() { l.Release() })
	next, err := flock.Wait(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	next.Release()
}

// Somebody who removes the file while it is locked must not make two owners
// out of those who come later.
func TestRemovedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	old, err := flock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Release()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l, err := flock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if _, err := flock.Try(path); !fault.Is(err, fault.Refused) {
		t.Errorf("%v", err)
	}
}

func TestSharedLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var readers []*flock.Lock
	for range 2 {
		l, err := flock.TryShared(path)
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, l)
	}
	for _, l := range readers {
		if _, err := flock.Try(path); !fault.Is(err, fault.Refused) {
			t.Errorf("%v", err)
		}
		l.Release()
	}
	waited, err := flock.WaitShared(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	waited.Release()
	alone, err := flock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := flock.TryShared(path); !fault.Is(err, fault.Refused) {
		t.Errorf("%v", err)
	}
	if err := alone.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file of a discarded lock: %v", err)
	}
}

// TestObservingLeavesNoTrace: who only looks neither makes nor writes the file,
// and yet waits for whoever has the lock.
func TestObservingLeavesNoTrace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	end, err := flock.Observe(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	end()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Fatalf("%v", err)
	}
	if err := os.WriteFile(path, []byte("somebody\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	if end, err = flock.Observe(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	other, err := flock.Observe(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	other()
	end()
	if text, err := os.ReadFile(path); string(text) != "somebody\n" {
		t.Errorf("%q %v", text, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if by, err := flock.Held(path); by != "" || err != nil {
		t.Errorf("held by %q, %v", by, err)
	}
	held, err := flock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	if by, err := flock.Held(path); !strings.Contains(by, fmt.Sprintf("process %d", os.Getpid())) || err != nil {
		t.Errorf("held by %q, %v", by, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := flock.Observe(ctx, path); !fault.Is(err, fault.Refused) {
		t.Errorf("%v", err)
	}
	held.Release()
	if end, err = flock.Observe(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	end()
}
