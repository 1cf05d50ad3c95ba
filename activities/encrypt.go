package activities

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/fence"
	"github.com/holdfast-pg/holdfast/internal/gpg"
	"github.com/holdfast-pg/holdfast/internal/manifest"
)

// seal is what an encrypted copy is: what its archives held when they were read
// against the manifest, and what gpg made of the same bytes. With it, a copy is
// proven without the secret key.
type seal struct {
	Archives map[string]string `json:"archives"` // SHA-256 of the encrypted files, by name
	Label    string            `json:"label"`
	SystemID uint64            `json:"system_id"`
	Files    int64             `json:"files"`
	Bytes    int64             `json:"bytes"`
	Manifest string            `json:"manifest_sha256"`
}

func sealPath(workDir string) string { return filepath.Join(workDir, "seal.json") }

// readSeal returns nil for a copy that has none.
func readSeal(workDir string) (*seal, error) {
	path := sealPath(workDir)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	s := &seal{}
	if err == nil {
		err = json.Unmarshal(text, s)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "read", path, err)
	}
	return s, nil
}

// encrypter makes encrypted archives of the clear ones of a copy. Each is read
// once: the bytes that gpg is given are those that the manifest was compared with.
type encrypter struct {
	keys     *gpg.Keys
	fence    *fence.Fence
	data     string // where the archives lie
	workDir  string
	progress func(int64)

	mu   sync.Mutex
	sums map[string]string
}

// run can be repeated after a kill. The clear archives go when all encrypted ones
// are durable and recorded.
func (e *encrypter) run(ctx context.Context, info *backupinfo.Info) (*seal, error) {
	s, err := readSeal(e.workDir)
	if err == nil && s == nil {
		s, err = e.make(ctx, info)
	}
	if err != nil {
		return nil, err
	}
	return s, e.fence.Do(func() error {
		for name := range s.Archives {
			clear := filepath.Join(e.data, strings.TrimSuffix(name, gpg.Suffix))
			if err := os.Remove(clear); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fault.Wrap(fault.Internal, "remove", clear, err)
			}
		}
		return atomicfile.SyncDir(e.data)
	})
}

func (e *encrypter) make(ctx context.Context, info *backupinfo.Info) (*seal, error) {
	if err := e.fence.Do(e.clean); err != nil {
		return nil, err
	}
	tars, err := basetar.Find(e.data, nil)
	if err != nil {
		return nil, err
	}
	if tars == nil {
		return nil, fault.New(fault.Corrupt, "encrypt", e.data, "pg_basebackup has left no archive there")
	}
	e.sums = map[string]string{}
	c, err := readTars(ctx, tars, info, e.progress, e.archive)
	if err != nil {
		return nil, err
	}
	s := &seal{Archives: e.sums, Label: c.label, SystemID: c.control.SystemID,
		Files: c.files.Summary.Files, Bytes: c.files.Summary.Bytes, Manifest: c.files.Summary.SHA256}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "encode", sealPath(e.workDir), err)
	}
	return s, e.fence.Do(func() error { return atomicfile.Write(sealPath(e.workDir), append(text, '\n'), 0o600) })
}

// clean removes what a killed run has left beside the clear archives.
func (e *encrypter) clean() error {
	entries, err := os.ReadDir(e.data)
	if err != nil {
		return fault.Wrap(fault.Internal, "list", e.data, err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, gpg.Suffix) && !strings.HasPrefix(name, atomicfile.TempPrefix) {
			continue
		}
		if err := os.Remove(filepath.Join(e.data, name)); err != nil {
			return fault.Wrap(fault.Internal, "remove", filepath.Join(e.data, name), err)
		}
	}
	return nil
}

// archive encrypts one archive while it is read.
func (e *encrypter) archive(ctx context.Context, a basetar.Archive, read func(basetar.Archive) error) error {
	st, err := os.Stat(a.Path)
	if err != nil {
		return fault.Wrap(fault.Internal, "stat", a.Path, err)
	}
	path := a.Path + gpg.Suffix
	out, err := atomicfile.Create(path, st.Mode().Perm())
	if err != nil {
		return err
	}
	defer out.Abort()
	sum := sha256.New()
	w, err := e.keys.NewWriter(ctx, io.MultiWriter(out, sum))
	if err != nil {
		return err
	}
	taken := &counter{w: w}
	err = read(a.CopyTo(taken))
	if cerr := w.Close(); cerr != nil {
		return fault.Wrap(fault.Internal, "encrypt", a.Path, cerr) // why gpg ended says more than the broken pipe
	}
	if err != nil {
		return err
	}
	if taken.n != st.Size() {
		return fault.New(fault.Corrupt, "encrypt", a.Path, "it has %d bytes, and its content ends after %d", st.Size(), taken.n)
	}
	if err := e.fence.Do(out.Commit); err != nil {
		return fault.Wrap(fault.Internal, "write", path, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sums[filepath.Base(path)] = hex.EncodeToString(sum.Sum(nil))
	return nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// readSealed reads encrypted archives back, to the last byte of each: they are
// what gpg made of what was compared with the manifest.
func readSealed(ctx context.Context, s *seal, tars *basetar.Set, progress func(int64)) (c content, err error) {
	data := filepath.Dir(tars.Base.Path)
	for _, name := range tars.Others {
		if name != manifest.Name {
			return c, fault.New(fault.Corrupt, "read backup", data, "%s is no part of it", name)
		}
	}
	present := map[string]bool{}
	for _, a := range tars.All() {
		name := filepath.Base(a.Path)
		if present[name] = true; s.Archives[name] == "" {
			return c, fault.New(fault.Corrupt, "read backup", data, "%s is no part of it", name)
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	g.Go(func() error { return unchanged(gctx, filepath.Join(data, manifest.Name), s.Manifest, nil) })
	for name, sum := range s.Archives {
		if !present[name] {
			return c, errors.Join(fault.New(fault.Corrupt, "read backup", data, "%s is missing", name), g.Wait())
		}
		g.Go(func() error { return unchanged(gctx, filepath.Join(data, name), sum, progress) })
	}
	c.label, c.control.SystemID = s.Label, s.SystemID
	c.files.Summary = manifest.Summary{Files: s.Files, Bytes: s.Bytes, SHA256: s.Manifest}
	return c, g.Wait()
}

// unchanged compares a file with the SHA-256 that it had.
func unchanged(ctx context.Context, path, sum string, progress func(int64)) error {
	f, err := os.Open(path)
	if err != nil {
		return fault.Wrap(fault.Corrupt, "read", path, err)
	}
	defer f.Close()
	hash, buf := sha256.New(), make([]byte, 256<<10)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := f.Read(buf)
		hash.Write(buf[:n])
		if progress != nil {
			progress(int64(n))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fault.Wrap(fault.Internal, "read", path, err)
		}
	}
	want, err := hex.DecodeString(sum)
	if err != nil || !bytes.Equal(want, hash.Sum(nil)) {
		return fault.New(fault.Corrupt, "read", path, "it is not what was written")
	}
	return nil
}
