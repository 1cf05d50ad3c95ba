package combinebackup_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/combinebackup"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

func TestArgs(t *testing.T) {
	got := combinebackup.Args(combinebackup.Options{Inputs: []string{"/b/1", "/b/2"}, Output: "/out", Mode: combinebackup.CopyFileRange, Checksums: "SHA256",
		Tablespaces: []combinebackup.Tablespace{{From: "/b/a=b", To: "/t=s"}}})
	want := []string{"--output=/out", "--no-sync", "--copy-file-range", "--manifest-checksums=SHA256", `--tablespace-mapping=/b/a\=b=/t\=s`, "/b/1", "/b/2"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		mode, stderr, signal string
		kind                 fault.Kind
	}{
		{combinebackup.Copy, `pg_combinebackup: error: could not write to file "x": No space left on device`, "", fault.Disk},
		{combinebackup.Clone, `pg_combinebackup: error: error while cloning file "a" to "b": Operation not supported`, "", fault.Refused},
		{combinebackup.Link, `pg_combinebackup: error: could not create link from "a" to "b": Invalid cross-device link`, "", fault.Refused},
		{combinebackup.Copy, `pg_combinebackup: error: could not open file "x": Permission denied`, "", fault.Permission},
		{combinebackup.Copy, "pg_combinebackup: error: file \"x\" has bad incremental magic number\n", "", fault.Corrupt},
		{combinebackup.Copy, "", "killed", fault.Crashed},
	} {
		err := combinebackup.Classify(combinebackup.Options{Mode: c.mode}, &command.ExitError{Program: "pg_combinebackup", Code: 1, Signal: c.signal, Stderr: c.stderr})
		if !fault.Is(err, c.kind) || fault.HintOf(err) == "" {
			t.Errorf("%q: %v is %s", c.stderr, err, fault.KindOf(err))
		}
	}
	mine := errors.New("mine")
	if err := combinebackup.Classify(combinebackup.Options{}, mine); !errors.Is(err, mine) {
		t.Error(err)
	}
	if combinebackup.CanLink(17) || !combinebackup.CanLink(18) {
		t.Error("link came with 18")
	}
}
