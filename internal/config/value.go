package config

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/lazyregexp"
)

const day = 24 * time.Hour

// Size is a number of bytes.
type Size int64

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"Ti", 1 << 40}, {"T", 1e12}, {"Gi", 1 << 30}, {"G", 1e9},
	{"Mi", 1 << 20}, {"M", 1e6}, {"Ki", 1 << 10}, {"k", 1e3},
}

// String uses the largest unit that is exact.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// ParseSize reads a number of bytes, perhaps with a unit such as Gi.
func ParseSize(text string) (Size, bool) {
	unit := int64(1)
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(text, u.suffix); ok {
			text, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, false
	}
	return Size(n * unit), true
}

var intervalForm = lazyregexp.New(`(?i)^\s*(\d{1,5})\s+(hour|day|week|month)s?\s*$`)

// intervalUnits: a month has 31 days, as for Barman.
var intervalUnits = map[string]time.Duration{"hour": time.Hour, "day": day, "week": 7 * day, "month": 31 * day}

func parseInterval(text string) (time.Duration, bool) {
	m := intervalForm.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	n, _ := strconv.Atoi(m[1])
	unit := intervalUnits[strings.ToLower(m[2])]
	if n == 0 || n > int((1<<62)/unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

func formatInterval(d time.Duration) string {
	for _, u := range []struct {
		name string
		d    time.Duration
	}{{"week", 7 * day}, {"day", day}} {
		if d%u.d == 0 {
			return plural(int64(d/u.d), u.name)
		}
	}
	return plural(int64(d/time.Hour), "hour")
}

func plural(n int64, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return strconv.FormatInt(n, 10) + " " + unit + "s"
}

func parseDuration(text string) (time.Duration, bool) {
	if d, ok := parseInterval(text); ok {
		return d, true
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d > 0
}

func formatDuration(d time.Duration) string {
	s := d.String()
	if d%time.Minute == 0 {
		s = strings.TrimSuffix(s, "0s")
	}
	if d%time.Hour == 0 {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Retention is a retention policy; the zero value keeps everything.
type Retention struct {
	Redundancy int           // keep so many backups, or
	Window     time.Duration // what is needed to go back so far
	unit       string
	count      int
}

var retentionForm = lazyregexp.New(`(?i)^\s*(?:REDUNDANCY\s+(\d{1,5})|RECOVERY\s+WINDOW\s+OF\s+(\d{1,5})\s+(DAY|WEEK|MONTH)S?)\s*$`)

// ParseRetention reads REDUNDANCY n or RECOVERY WINDOW OF n DAYS, WEEKS or MONTHS.
func ParseRetention(text string) (Retention, bool) {
	m := retentionForm.FindStringSubmatch(text)
	if m == nil {
		return Retention{}, false
	}
	if m[1] != "" {
		n, _ := strconv.Atoi(m[1])
		return Retention{Redundancy: n}, n > 0
	}
	n, _ := strconv.Atoi(m[2])
	unit := strings.ToLower(m[3])
	r := Retention{Window: time.Duration(n) * intervalUnits[unit], unit: strings.ToUpper(unit), count: n}
	return r, n > 0 && r.Window/intervalUnits[unit] == time.Duration(n)
}

// IsZero reports whether there is no policy.
func (r Retention) IsZero() bool { return r.Redundancy == 0 && r.Window == 0 }

// String is the policy as Barman writes it.
func (r Retention) String() string {
	switch {
	case r.Redundancy > 0:
		return fmt.Sprintf("REDUNDANCY %d", r.Redundancy)
	case r.Window > 0:
		return fmt.Sprintf("RECOVERY WINDOW OF %d %sS", r.count, r.unit)
	}
	return ""
}

// CloudURL is a place in an object store.
type CloudURL struct {
	Provider string // aws, gcs, azure, file
	URL      string
}

// ValidEndpoint reports whether text is the address of a server that speaks HTTP.
func ValidEndpoint(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// keepsSecrets reports whether what is sent to a valid endpoint cannot be read on its way.
func keepsSecrets(endpoint string) bool {
	u, _ := url.Parse(endpoint)
	return u.Scheme == "https" || u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
}

// ParseCloudURL recognises the three stores as Barman does, and file:///DIRECTORY.
func ParseCloudURL(text string) (CloudURL, bool) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return CloudURL{}, false
	}
	host, _, _ := strings.Cut(rest, "/")
	bucket, isConsole := strings.CutPrefix(text, "https://console.cloud.google.com/storage/browser/")
	switch {
	case scheme == "s3" && host != "":
		return CloudURL{"aws", text}, true
	case scheme == "gs" && host != "", isConsole && bucket != "":
		return CloudURL{"gcs", text}, true
	case strings.HasSuffix(host, "blob.core.windows.net"):
		return CloudURL{"azure", text}, true
	case scheme == "file" && host == "" && rest != "/":
		return CloudURL{"file", text}, true
	}
	return CloudURL{}, false
}
