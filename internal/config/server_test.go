package config

import (
	"fmt"
	"slices"
	"testing"
)

func TestStoreOptions(t *testing.T) {
	const endpoint = "https://s3.example.net"
	for _, c := range []struct {
		bases, wals string
		replicas    []string
		url, want   string
	}{
		{"s3://b/pg", "/var/lib/wals", nil, "s3://b/pg", endpoint},
		{"s3://b/pg", "/var/lib/wals", []string{"s3://c", "gs://d"}, "s3://c", endpoint},
		{"s3://b/pg", "/var/lib/wals", []string{"gs://d"}, "gs://d", ""},
		{"gs://b/pg", "/var/lib/wals", []string{"s3://d"}, "gs://b/pg", ""},
		{"https://a.blob.core.windows.net/c", "s3://b/wals", nil, "https://a.blob.core.windows.net/c", ""},
		{"gs://b/pg", "gs://b/wals", []string{"file:///mnt/nas"}, "gs://b/pg", endpoint},
		// That this is an error is for Azure's driver to say.
		{"https://a.blob.core.windows.net/c", "/var/lib/wals", nil, "https://a.blob.core.windows.net/c", endpoint},
	} {
		s := &Server{}
		s.BasebackupsDirectory, s.WALsDirectory, s.HoldfastReplicas, s.HoldfastEndpointURL = c.bases, c.wals, c.replicas, endpoint
		if got := s.StoreOptions(c.url).HoldfastEndpointURL; got != c.want {
			t.Errorf("%s, %s and %q: the endpoint of %s is %q", c.bases, c.wals, c.replicas, c.url, got)
		}
	}
}

func TestUnlike(t *testing.T) {
	const text = "[barman]\nbarman_home = /h\n[main]\nconninfo = host=a password=%s\nbackup_method = postgres\n"
	read := func(password, more string) *Server {
		return server(t, load(t, map[string]string{"barman.conf": fmt.Sprintf(text, password) + more}), "main")
	}
	s := read("one", "parallel_jobs = 2\ncompression = gzip\n")
	for _, c := range []struct {
		name  string
		other *Server
		want  []string
	}{
		{"the same", read("one", "parallel_jobs = 2\ncompression = gzip\n"), nil},
		{"a secret", read("two", "parallel_jobs = 2\ncompression = gzip\n"), nil},
		{"a value", read("one", "parallel_jobs = 3\ncompression = gzip\n"), []string{"parallel_jobs"}},
		{"two more, one less", read("one", "parallel_jobs = 2\nbandwidth_limit = 3\ncheck_timeout = 5\n"), []string{"bandwidth_limit", "check_timeout", "compression"}},
	} {
		if got := s.Unlike(c.other.Marks()); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.name, got)
		}
		if got := c.other.Unlike(s.Marks()); !slices.Equal(got, c.want) {
			t.Errorf("%s, the other way: %q", c.name, got)
		}
	}
}
