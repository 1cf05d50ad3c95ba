//go:build integration

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
	"github.com/holdfast-pg/holdfast/internal/snapshot/aws/awstest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// TestSnapshotInABucket: records and WAL of backups that are snapshots of a cloud's disks
// lie in a bucket, as barman-cloud-backup puts them there: Barman's tools read them, and
// whoever knows the URL alone keeps, restores and deletes them.
func TestSnapshotInABucket(t *testing.T) {
	t.Parallel()
	c := amazon(t)
	store := &cloud{Gateway: storetest.StartGateway(t, cloudBucket)}
	maps.Copy(c.env, store.Environment())
	c.env["AWS_ENDPOINT_URL_EC2"] = c.aws.URL                                                       // of whoever reads no configuration
	c.settings[slices.Index(c.settings, "aws_region = "+awstest.Region)] = "aws_region = us-east-1" // that of the store
	b, disks := newRentedBed(t, c, barmantest.PostgreSQL, "basebackups_directory = "+cloudURL, "wals_directory = "+cloudURL, "holdfast_endpoint_url = "+store.URL)
	incoming := filepath.Join(b.Home, stacktest.Server, "incoming")
	b.archiveWith(t, fmt.Sprintf("mkdir -p %[1]s && cp %%p %[1]s/.%%f && mv %[1]s/.%%f %[1]s/%%f", incoming))
	from := []string{"--from", cloudURL, "--endpoint-url", store.URL}
	anywhere := func(args ...string) stacktest.Result { t.Helper(); return b.Must(t, append(args, from...)...) }
	c.hurry()
	c.creating(func(involved func(string) bool) {
		if err := cut(disks, involved); err != nil {
			t.Error(err)
		}
	})
	got := b.backup(t)
	id := string(got.ID)
	if have := store.below(t, stacktest.Server+"/base"); !slices.Equal(have, []string{id + "/backup.info", id + "/backup_label"}) {
		t.Errorf("the bucket has %q", have)
	}
	for _, command := range [][]string{{"barman-cloud-backup-list", cloudURL, stacktest.Server}, {"barman-cloud-backup-show", cloudURL, stacktest.Server, id}} {
		if out := store.barman(t, nil, command...); !strings.Contains(out, id) {
			t.Errorf("%v says %s", command, out)
		}
	}
	name := disks[1].name + "-" + strings.ToLower(id)
	if out := anywhere("show-backup", stacktest.Server, id).Stdout; !strings.Contains(out, name) || strings.Contains(out, "Not of a backup       : some") {
		t.Errorf("show-backup says %s", out)
	}
	if r := b.Holdfast(t, append([]string{"verify-backup", stacktest.Server, id}, from...)...); r.Code == 0 || !strings.Contains(r.Stderr, "disk snapshots") {
		t.Errorf("verify-backup: exit code %d, %s", r.Code, r.Stderr)
	}
	anywhere("keep", stacktest.Server, id, "--target", "full")
	if r := b.Holdfast(t, append([]string{"delete", stacktest.Server, id}, from...)...); r.Code == 0 || len(c.snapshots()) != len(disks) {
		t.Errorf("a backup that is kept is deleted: exit code %d, %s; the snapshots are %q", r.Code, r.Stderr, c.snapshots())
	}
	anywhere("keep", stacktest.Server, id, "--release")
	t.Run("deleted by the server", func(t *testing.T) {
		second := b.backup(t)
		b.Must(t, "delete", stacktest.Server, string(second.ID))
		if have := store.below(t, stacktest.Server+"/base"); len(have) != 2 || len(c.snapshots()) != len(disks) {
			t.Errorf("the bucket has %q, and the snapshots are %q", have, c.snapshots())
		}
	})
	if t.Failed() {
		return
	}
	c.creating(func(func(string) bool) {})
	t.Run("restored by the URL", func(t *testing.T) { b.fromDisks(t, c, disks, id, from...) })
	anywhere("delete", stacktest.Server, id)
	if have := store.below(t, stacktest.Server+"/base"); len(have) > 0 || len(c.snapshots()) > 0 {
		t.Errorf("left of a deleted backup: %q, and the snapshots %q", have, c.snapshots())
	}
}

// below are the objects of the store below a prefix of its URL, without that.
func (c *cloud) below(t *testing.T, prefix string) (names []string) {
	t.Helper()
	root := filepath.Join(c.Data(cloudBucket), strings.TrimPrefix(cloudURL, "s3://"+cloudBucket+"/"), prefix)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(root, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return names
}
