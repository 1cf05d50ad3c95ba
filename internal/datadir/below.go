package datadir

import (
	"path/filepath"
	"strings"
)

// Below returns the path of something relative to the directory that it lies
// in, compared by path components, as they are written or as links lead.
func Below(dir, path string) (string, bool) {
	if rel, ok := Inside(dir, path); ok {
		return rel, true
	}
	realDir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", false
	}
	realPath, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", false
	}
	return Inside(realDir, realPath)
}

// Inside is Below for paths as they are written, of any host.
func Inside(dir, path string) (string, bool) {
	rel, err := filepath.Rel(dir, path)
	return rel, err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
