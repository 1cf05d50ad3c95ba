package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Object is a JSON object.
type Object = map[string]any

// Size is a number of bytes for people: base 1024, one decimal.
func Size(n int64) string {
	if n < 1024 && n > -1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, unit := float64(n)/1024, 0
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB"}
	for (v >= 1024 || v <= -1024) && unit < len(units)-1 {
		v, unit = v/1024, unit+1
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + units[unit]
}

// Seconds is a duration for people, as Barman words it.
func Seconds(seconds float64) string {
	n := int64(seconds)
	if n < 1 {
		return "less than one second"
	}
	var parts []string
	for _, u := range []struct {
		name string
		size int64
	}{{"day", 86400}, {"hour", 3600}, {"minute", 60}, {"second", 1}} {
		if k := n / u.size; k > 0 {
			parts = append(parts, plural(k, u.name))
			n %= u.size
		}
	}
	return strings.Join(parts, ", ")
}

func plural(n int64, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return strconv.FormatInt(n, 10) + " " + unit + "s"
}

// CTime is C's ctime without its newline.
func CTime(t time.Time) string { return t.Format(time.ANSIC) }

// iso is Python's isoformat with a blank: a fraction has six digits or none.
func iso(t time.Time) string {
	if t.Nanosecond() < 1000 {
		return t.Format("2006-01-02 15:04:05-07:00")
	}
	return t.Format("2006-01-02 15:04:05.000000-07:00")
}

func stamp(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

func percent(share float64) string { return fmt.Sprintf("%.2f%%", 100*share) }

// set stores what a pointer leads to; nothing when it is nil.
func set[T any](o Object, key string, value *T) {
	if value != nil {
		o[key] = *value
	}
}

func orZero[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// orNull is a pointer's value for JSON.
func orNull[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}
