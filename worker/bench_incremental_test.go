//go:build integration

package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// BenchmarkIncrementalRestore compares the restore of a chain of three, 900 MB
// large, with pg_combinebackup by hand, which reads nothing back and fetches no
// WAL. The metric is the ratio of their times.
func BenchmarkIncrementalRestore(b *testing.B) {
	version := pgtest.Versions()[1]
	s := stacktest.Start(b, stacktest.Options{Version: version, Method: config.MethodPostgres, OneDatabase: true,
		Config: []string{"max_wal_size = 4GB", "autovacuum = off", "summarize_wal = on"}})
	s.Cluster.Fill(b, "big", "", 2_400_000)
	base := filepath.Join(s.Home, stacktest.Server, "base")
	var inputs []string
	for i, args := range [][]string{nil, {"--incremental", "latest"}, {"--incremental", "latest"}} {
		s.Must(b, append([]string{"backup", stacktest.Server, "--wait"}, args...)...)
		s.Cluster.Exec(b, fmt.Sprintf("UPDATE big SET payload = payload || '.' WHERE id BETWEEN %d AND %d", i*500_000, i*500_000+100_000))
		s.Cluster.Exec(b, "CHECKPOINT")
		ids := strings.Fields(s.Must(b, "list-backups", stacktest.Server, "--minimal").Stdout)
		inputs = append(inputs, "'"+filepath.Join(base, ids[0], "data")+"'")
	}
	id := backup.ID(filepath.Base(filepath.Dir(strings.Trim(inputs[2], "'"))))
	var hand, ours time.Duration
	for b.Loop() {
		byHand, dest := filepath.Join(s.Dir, "by-hand"), filepath.Join(pgtest.Dir(b), "restored")
		hand += timed(func() {
			shell(b, fmt.Sprintf("'%s/pg_combinebackup' -o '%s' %s", s.Cluster.BinDir, byHand, strings.Join(inputs, " ")))
		})
		clean(b, byHand)
		ours += timed(func() { s.Must(b, "restore", stacktest.Server, string(id), dest, "--target-immediate", "--jobs", "2") })
		clean(b, dest)
	}
	b.ReportMetric(ours.Seconds()/hand.Seconds(), "ratio")
	b.ReportMetric(hand.Seconds()/float64(b.N), "by-hand-s/op")
}
