package activities

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/manifest"
)

// tarCase is a backup of two tar archives; content is by path in the manifest.
type tarCase struct {
	base, tablespace, listed []string
	content                  map[string]string
}

func newTarCase(t *testing.T) *tarCase {
	t.Helper()
	control, err := os.ReadFile("../internal/pgcontrol/testdata/18.pg_control")
	require.NoError(t, err)
	c := &tarCase{base: []string{"backup_label", "base/1/2", "global/pg_control"}, tablespace: []string{"PG_18_1/5/9"},
		content: map[string]string{"backup_label": "START", "base/1/2": "relation", "global/pg_control": string(control), "pg_tblspc/16384/PG_18_1/5/9": "rows"}}
	c.listed = append(append(c.listed, c.base...), "pg_tblspc/16384/PG_18_1/5/9")
	return c
}

// place writes the backup; change may alter what a member holds.
func (c *tarCase) place(t *testing.T, change map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	pack := func(name, below string, members []string) {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "pg_wal/", Mode: 0o700}))
		for _, member := range members {
			text, changed := change[below+member]
			if !changed {
				text = c.content[below+member]
			}
			h := &tar.Header{Typeflag: tar.TypeReg, Name: member, Mode: 0o600, Size: int64(len(text))}
			if text == "link" {
				h.Typeflag, h.Size, h.Linkname, text = tar.TypeSymlink, 0, "/etc/passwd", ""
			}
			require.NoError(t, w.WriteHeader(h))
			_, err := w.Write([]byte(text))
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), out.Bytes(), 0o600))
	}
	pack("base.tar", "", c.base)
	pack("16384.tar", "pg_tblspc/16384/", c.tablespace)
	var list bytes.Buffer
	w := manifest.NewWriter(&list, 7)
	for _, path := range c.listed {
		f := manifest.File{Path: path, Size: int64(len(c.content[path])), Modified: time.Now(), Algorithm: manifest.SHA256}
		sum := f.Algorithm.New()
		sum.Write([]byte(c.content[path]))
		f.Checksum = sum.Sum(nil)
		require.NoError(t, w.Add(f))
	}
	_, err := w.Close(nil)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, manifest.Name), list.Bytes(), 0o600))
	return dir
}

func TestReadTars(t *testing.T) {
	for name, c := range map[string]struct {
		change  map[string]string
		arrange func(c *tarCase)
		disturb func(dir string) error
		says    string // "" when all is well
	}{
		"good":                       {},
		"another byte":               {change: map[string]string{"base/1/2": "Relation"}, says: "base/1/2 (other content"},
		"shorter":                    {change: map[string]string{"pg_tblspc/16384/PG_18_1/5/9": "row"}, says: "pg_tblspc/16384/PG_18_1/5/9 (other content: 3 bytes"},
		"a link instead":             {change: map[string]string{"base/1/2": "link"}, says: "base/1/2 (extra), base/1/2 (missing)"},
		"a member that is missing":   {arrange: func(c *tarCase) { c.base = c.base[:2] }, says: "global/pg_control (missing)"},
		"a member that is extra":     {arrange: func(c *tarCase) { c.listed = c.listed[1:] }, says: "backup_label (extra)"},
		"no control file at all":     {arrange: func(c *tarCase) { c.base, c.listed = c.base[:2], append(c.listed[:2:2], c.listed[3]) }, says: "pg_control"},
		"a control file that is bad": {arrange: func(c *tarCase) { c.content["global/pg_control"] = "?" }, says: "pg_control"},
		"an archive that is missing": {disturb: func(dir string) error { return os.Remove(filepath.Join(dir, "16384.tar")) }, says: "PG_18_1/5/9 (missing)"},
		"an archive too many": {disturb: func(dir string) error {
			return os.Link(filepath.Join(dir, "16384.tar"), filepath.Join(dir, "16385.tar"))
		}, says: "16385.tar (extra)"},
		"a file too many": {disturb: func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), nil, 0o600) }, says: "x (extra)"},
		"no manifest":     {disturb: func(dir string) error { return os.Remove(filepath.Join(dir, manifest.Name)) }, says: manifest.Name},
	} {
		t.Run(name, func(t *testing.T) {
			backup := newTarCase(t)
			if c.arrange != nil {
				c.arrange(backup)
			}
			dir := backup.place(t, c.change)
			if c.disturb != nil {
				require.NoError(t, c.disturb(dir))
			}
			tars, err := basetar.Find(dir, nil)
			require.NoError(t, err)
			got, err := readTars(context.Background(), tars, &backupinfo.Info{Tablespaces: []backupinfo.Tablespace{{Name: "t", OID: 16384}}}, nil, nil)
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "START", got.label)
			assert.Equal(t, uint64(7711781173816318021), got.control.SystemID)
			assert.Equal(t, int64(4), got.files.Summary.Files)
		})
	}
}
