package config

import (
	"testing"
	"time"
)

func TestValues(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "12": 12, "3k": 3000, "3Ki": 3072, "30 Gi": 30 << 30, "2T": 2e12, "-1": -1, "1.5G": -1, "9999999Ti": -1, "k": -1, "3gb": -1} {
		got, ok := ParseSize(text)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%s: %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"3000Gi", "30Gi", "7k", "1001", "0"} {
		if s, _ := ParseSize(text); s.String() != text {
			t.Errorf("%s: %s", text, s)
		}
	}
	for text, want := range map[string]time.Duration{"7 DAYS": 7 * day, "1 month": 31 * day, "2 weeks": 14 * day, "5 hour": 5 * time.Hour, "90m": 90 * time.Minute, "0 days": 0, "7": 0, "-3h": 0, "99999 months": 0} {
		got, ok := parseDuration(text)
		if ok != (want > 0) || ok && got != want {
			t.Errorf("%s: %s, %v", text, got, ok)
		}
	}
	for d, want := range map[time.Duration]string{90 * time.Second: "1m30s", 15 * time.Minute: "15m", 24 * time.Hour: "24h", 90 * time.Minute: "1h30m", 20 * time.Second: "20s"} {
		if got := formatDuration(d); got != want {
			t.Errorf("%s: %s", d, got)
		}
	}
	for text, want := range map[string]string{
		"redundancy 3": "REDUNDANCY 3", "RECOVERY  window OF 1 month": "RECOVERY WINDOW OF 1 MONTHS", "recovery window of 2 WEEKS": "RECOVERY WINDOW OF 2 WEEKS",
		"": "", "REDUNDANCY": "", "REDUNDANCY -1": "", "RECOVERY WINDOW OF 0 DAYS": "", "RECOVERY WINDOW OF 3 HOURS": "", "RECOVERY WINDOW OF 99999 MONTHS": "",
	} {
		r, ok := ParseRetention(text)
		if ok != (want != "") || ok && (r.String() != want || r.IsZero()) {
			t.Errorf("%q: %q, %v", text, r, ok)
		}
	}
	if r, _ := ParseRetention("RECOVERY WINDOW OF 2 MONTHS"); r.Window != 62*day || r.Redundancy != 0 {
		t.Errorf("%+v", r)
	}
	for text, want := range map[string]string{
		"s3://b/x": "aws", "gs://b": "gcs", "https://console.cloud.google.com/storage/browser/b": "gcs", "https://a.blob.core.windows.net/c": "azure",
		"/s3/x": "", "s3://": "", "https://example.org/blob.core.windows.net": "", "ftp://b": "", "file:///srv/wal": "file", "file:///": "", "file://host/x": "",
	} {
		if u, ok := ParseCloudURL(text); ok != (want != "") || u.Provider != want {
			t.Errorf("%s: %+v", text, u)
		}
	}
}

func TestNearest(t *testing.T) {
	candidates := names(serverOptions, globalOptions)
	for name, want := range map[string]string{
		"coninfo": "conninfo", "conn_info": "conninfo", "retention_polciy": "retention_policy", "backup-method": "backup_method",
		"compresion_level": "compression_level", "pre_backup_scripts": "pre_backup_script", "nothing_of_the_kind": "", "x": "",
	} {
		if got := nearest(name, candidates); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestTags(t *testing.T) {
	for text, want := range map[string]string{
		"a=b": "a=b", " team = db , cost centre=7/a,none=": "cost centre=7/a,none=,team=db", "a=1,b=2,c=3,d=4,e=5,f=6,g=7,h=8,i=9,j=10": "a=1,b=2,c=3,d=4,e=5,f=6,g=7,h=8,i=9,j=10",
		"a": "", "": "", "=b": "", "a=b,": "", "a=b,a=c": "", "a=b=c": "", "a=ü": "", "a=1,b=2,c=3,d=4,e=5,f=6,g=7,h=8,i=9,j=10,k=11": "",
	} {
		tags, ok := parseTags(text)
		if ok != (want != "") || ok && tags.String() != want {
			t.Errorf("%q: %q, %v", text, tags, ok)
		}
	}
}
