package bucket

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// MapObject is the key of the server's tablespace_map below that of a local-to-cloud backup of ours.
const MapObject = "holdfast/tablespace_map"

// beside compares the objects that lie beside the archives of a local-to-cloud backup of ours, and
// which no archive needs to be restored, with the record that the caller has. What is wrong with each is Corrupt.
func (b *Bucket) beside(ctx context.Context, info *backupinfo.Info, c *Contents) (wrong []error, err error) {
	if c.recorded == nil {
		return nil, nil
	}
	for _, compare := range []func(context.Context, *backupinfo.Info, *Contents) error{b.compareRecord, b.compareMap, b.compareKeep} {
		switch err := compare(ctx, info, c); {
		case fault.Is(err, fault.Corrupt):
			wrong = append(wrong, err)
		case err != nil:
			return wrong, err
		}
	}
	return wrong, nil
}

// compareRecord compares the record beside the archives with the caller's, which may be the original.
func (b *Bucket) compareRecord(ctx context.Context, info *backupinfo.Info, _ *Contents) error {
	key := b.recordKey(info.ID)
	got, _, err := b.record(ctx, info.ID)
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.Corrupt, "read", key, "it is missing")
	}
	if err != nil {
		return err
	}
	got.ServerName = info.ServerName // as read has it
	if !bytes.Equal(got.Encode(), info.Encode()) {
		return fault.New(fault.Corrupt, "read", key, "it differs from the catalogue's record")
	}
	return nil
}

// compareMap compares the tablespaces that the server named with those of the record.
func (b *Bucket) compareMap(ctx context.Context, info *backupinfo.Info, c *Contents) error {
	key := b.dir(info.ID) + MapObject
	if !slices.Contains(c.Keys, key) {
		return fault.New(fault.Corrupt, "read", key, "it is missing")
	}
	text, err := b.text(ctx, key)
	if err != nil {
		return err
	}
	named, err := parseMap(text)
	if err != nil {
		return fault.Wrap(fault.Corrupt, "read", key, err)
	}
	for _, t := range info.Tablespaces {
		at, there := named[t.OID]
		inPlace := !filepath.IsAbs(t.Location) // PostgreSQL names those that have links
		if at != t.Location && (there || !inPlace) {
			return fault.New(fault.Corrupt, "read", key, "tablespace %d is at %q there, at %q in the record", t.OID, at, t.Location)
		}
		delete(named, t.OID)
	}
	for oid := range named {
		return fault.New(fault.Corrupt, "read", key, "the record has no tablespace %d", oid)
	}
	return nil
}

// parseMap reads a tablespace_map: an OID, a blank and a path in each line, where a backslash precedes line ends
// and backslashes of the path (PostgreSQL manual, 26.3.3, and do_pg_backup_start).
func parseMap(text string) (map[uint32]string, error) {
	out := map[uint32]string{}
	var line []byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			line = append(line, text[i])
		case c == '\n':
			oid, at, _ := strings.Cut(string(line), " ")
			n, err := strconv.ParseUint(oid, 10, 32)
			if err != nil {
				return nil, errors.New(strconv.Quote(string(line)) + " is not the OID and the path of a tablespace")
			}
			out[uint32(n)], line = at, line[:0]
		default:
			line = append(line, c)
		}
	}
	if len(line) > 0 {
		return nil, errors.New("its last line has no end")
	}
	return out, nil
}

// compareKeep reads what protects the backup from deletion.
func (b *Bucket) compareKeep(ctx context.Context, info *backupinfo.Info, c *Contents) error {
	if !slices.Contains(c.Keys, b.keepKey(info.ID)) {
		return nil
	}
	_, err := b.Keep(ctx, info.ID)
	return err
}
