//go:build integration

package main

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
)

// results remembers what has passed, so that a long run can go on after an
// interruption. Each run has three variables in the environment: its name says
// whether all is wanted, name_RESULTS where results are kept, without which
// nothing is remembered, and name_FOR how long a sitting lasts.
type results struct {
	all  bool // not only CI's part
	path string
	mu   sync.Mutex
	done map[string]result

	planned int       // scenarios
	until   time.Time // when this sitting ends; zero for never
}

type result struct {
	Name     string  `json:"name"`
	Passed   bool    `json:"passed"`
	Attempts int     `json:"attempts"`
	Seconds  float64 `json:"seconds"`
}

func openResults(t *testing.T, name string) *results {
	r := &results{all: os.Getenv(name) == "all", path: os.Getenv(name + "_RESULTS"), done: map[string]result{}}
	if text := os.Getenv(name + "_FOR"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("%s_FOR: %v", name, err)
		}
		r.until = time.Now().Add(d)
	}
	if r.path == "" {
		return r
	}
	f, err := os.Open(r.path)
	if os.IsNotExist(err) {
		return r
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var one result
		if json.Unmarshal(sc.Bytes(), &one) == nil && one.Passed {
			r.done[one.Name] = one
		}
	}
	return r
}

// sittingIsOver reports whether the rest is left to another sitting.
func (r *results) sittingIsOver() bool { return !r.until.IsZero() && time.Now().After(r.until) }

func (r *results) passed(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.done[name]
	return ok
}

// allPassed reports whether nothing of a list is left to do.
func (r *results) allPassed(list []scenario) bool {
	return !slices.ContainsFunc(list, func(s scenario) bool { return !r.passed(s.String()) })
}

func (r *results) add(t *testing.T, one result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if one.Passed {
		r.done[one.Name] = one
	}
	if r.path == "" {
		return
	}
	line, err := json.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(r.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
}

// write puts a page about what has passed into the manual, if all was wanted.
func (r *results) write(t *testing.T, name string, page func(*results) string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.all {
		return
	}
	if err := atomicfile.Write(filepath.Join("..", "docs", name), []byte(page(r)), 0o644); err != nil {
		t.Error(err)
	}
}
