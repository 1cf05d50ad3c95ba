//go:build integration

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

func killPage(r *results) string {
	type cell struct{ passed, attempts int }
	rows := map[string]map[string]*cell{}
	slowest := result{}
	for name, one := range r.done {
		parts := strings.SplitN(name, "/", 4)
		row, victim := parts[0]+" | "+parts[1], parts[2]
		if rows[row] == nil {
			rows[row] = map[string]*cell{}
		}
		c := rows[row][victim]
		if c == nil {
			c = &cell{}
			rows[row][victim] = c
		}
		c.passed++
		c.attempts = max(c.attempts, one.Attempts)
		if one.Seconds > slowest.Seconds {
			slowest = one
		}
	}
	var b strings.Builder
	b.WriteString(`# What was killed where

Made by ` + "`make test-kill`" + `. Each run takes one backup of a cluster with a tablespace, kills one thing with
signal 9 (a session with pg_terminate_backend), and passes when the backup is DONE under the same ID,
nothing else came into the catalogue, the restored rows are those of the source, pg_amcheck finds
nothing, and no process, session, temporary file or lock is left. Backups of AWS's volumes are not
restored each time: exactly the snapshots are there that the record names. The points are the beginning and
the end of every step, and the middle of the copy; a storm kills three to six times at random.

A cell is the number of runs that passed, and the most attempts that one of them took.

`)
	victims := append(slices.Clone(stacktest.Victims), "storm")
	fmt.Fprintf(&b, "| method | PostgreSQL | %s |\n|---|---|%s\n", strings.Join(victims, " | "), strings.Repeat("---|", len(victims)))
	for _, row := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(&b, "| %s |", row)
		for _, v := range victims {
			if c := rows[row][v]; c != nil {
				fmt.Fprintf(&b, " %d (%d) |", c.passed, c.attempts)
			} else {
				b.WriteString(" none |")
			}
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\n%d of %d runs have been made and passed. The slowest took %.0f seconds, its restore included: %s.\n", len(r.done), r.planned, slowest.Seconds, slowest.Name)
	return b.String()
}
