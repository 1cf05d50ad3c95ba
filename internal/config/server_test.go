package config

import "testing"

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
