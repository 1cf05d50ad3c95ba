//go:build integration

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// TestLockedBackups: with aws_check_object_lock a backup whose objects are locked is refused
// with the date, by people and by retention, before anything of it is deleted. An upload that was left is the doctor's.
func TestLockedBackups(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	client := s3.New(s3.Options{BaseEndpoint: aws.String(c.URL), UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(storetest.AccessKey, storetest.SecretKey, "")})
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("locked"), ObjectLockEnabledForBucket: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	settings := []string{"basebackups_directory = s3://locked/pg", "holdfast_endpoint_url = " + c.proxy.URL, "aws_check_object_lock = on", "retention_policy = REDUNDANCY 1"}
	b := newBedWith(t, stacktest.Options{Version: pgtest.Versions()[1], Method: config.MethodLocalToCloud, Env: c.Environment(), Settings: settings})
	b.cloud = c
	first := b.backup(t)
	b.backup(t)
	until := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)
	key := "pg/" + stacktest.Server + "/base/" + string(first.ID) + "/data.tar.zst"
	// versitygw gives new objects no locks by a rule of the bucket.
	if _, err := client.PutObjectRetention(t.Context(), &s3.PutObjectRetentionInput{Bucket: aws.String("locked"), Key: &key,
		Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionModeGovernance, RetainUntilDate: &until}}); err != nil {
		t.Fatal(err)
	}
	r := b.Holdfast(t, "delete", stacktest.Server, string(first.ID))
	if r.Code == 0 || !strings.Contains(r.Stderr, "data.tar.zst is locked until "+until.Format(time.RFC3339)+" (GOVERNANCE)") {
		t.Errorf("exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if said := b.Must(t, "cron").Stderr; !strings.Contains(said, "is locked until") {
		t.Errorf("retention says %s", said)
	}
	b.Must(t, "verify-backup", stacktest.Server, string(first.ID))
	if list := b.Must(t, "list-backups", stacktest.Server).Stdout; strings.Contains(list, "FAILED") || !strings.Contains(list, string(first.ID)) {
		t.Errorf("after the refusals: %s", list)
	}
	if _, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String("locked"), Key: aws.String(key + "-zombie")}); err != nil {
		t.Fatal(err)
	}
	if r := b.Holdfast(t, "doctor", stacktest.Server); r.Code != 1 || !strings.Contains(r.Stdout, "left over: unfinished upload s3://locked/pg/main/base/") {
		t.Errorf("doctor: exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r := b.Must(t, "doctor", "--fix", stacktest.Server); !strings.Contains(r.Stdout, "removed: unfinished upload") {
		t.Errorf("doctor --fix: %s", r.Stdout)
	}
	if r := b.Must(t, "doctor", stacktest.Server); !strings.Contains(r.Stdout, "nothing is left over") {
		t.Errorf("doctor: %s", r.Stdout)
	}
	b.Configure(t, config.MethodLocalToCloud, append(settings[:2:2], "retention_policy = REDUNDANCY 1")...)
	if in := b.cron(t); len(in.Deleted) != 1 || in.Deleted[0] != first.ID {
		t.Errorf("without the option retention deleted %v", in.Deleted)
	}
}
