package config

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/lazyregexp"
	"github.com/holdfast-pg/holdfast/internal/schedule"
)

// kind is what the type tag of an option names.
type kind struct {
	expects string // "... is expected", unless the option's own tags say more
	// text kinds take None and the empty value for "unset", which also hides
	// the value of [barman]; the others reject both.
	text   bool
	parse  func(o *Option, s string) (any, bool)
	format func(v any) string // nil: fmt.Sprint
}

var (
	slotForm      = lazyregexp.New(`^[0-9a-z_]{1,63}$`)
	magicForm     = lazyregexp.New(`^0x(?:[0-9a-fA-F]{2})+$`)
	scopeForm     = lazyregexp.New(`^[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*$`)
	googleKeyForm = lazyregexp.New(`^projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s]+$`)
	timestampForm = "2006-01-02T15:04:05.000Z"
)

var booleans = map[string]bool{
	"true": true, "t": true, "yes": true, "1": true, "on": true,
	"false": false, "f": false, "no": false, "0": false, "off": false,
}

var kinds = map[string]kind{
	"bool": {expects: "true, t, yes, 1, on, false, f, no, 0 or off", parse: func(_ *Option, s string) (any, bool) {
		v, ok := booleans[strings.ToLower(s)]
		return v, ok
	}},
	"int": {expects: "an integer", parse: func(o *Option, s string) (any, bool) { return parseInt(o, s) }},
	"kB/s": {expects: "a number of kB/s", parse: func(o *Option, s string) (any, bool) {
		return parseInt(o, s)
	}},
	"seconds": {expects: "a number of seconds", parse: func(o *Option, s string) (any, bool) {
		n, ok := parseInt(o, s)
		return time.Duration(n) * time.Second, ok && n <= int(1<<62/time.Second)
	}, format: func(v any) string { return strconv.Itoa(int(v.(time.Duration) / time.Second)) }},
	"size": {expects: "an integer, perhaps with a unit: k, Ki, M, Mi, G, Gi, T, Ti", parse: func(_ *Option, s string) (any, bool) {
		return ParseSize(s)
	}},
	"interval": {expects: "a number of hours, days, weeks or months, such as 7 DAYS", parse: func(_ *Option, s string) (any, bool) {
		return parseInterval(s)
	}, format: func(v any) string { return formatInterval(v.(time.Duration)) }},
	"duration": {expects: "a duration such as 90m, 12h or 2 DAYS", parse: func(_ *Option, s string) (any, bool) {
		return parseDuration(s)
	}, format: func(v any) string { return formatDuration(v.(time.Duration)) }},
	"string": {expects: "text", text: true, parse: verbatim},
	"shell":  {expects: "a shell command", text: true, parse: verbatim},
	"path":   {expects: "an absolute path", text: true, parse: parsePath},
	"place": {expects: "an absolute path, s3://..., gs://..., file:///... or the URL of an Azure container", text: true, parse: func(o *Option, s string) (any, bool) {
		if _, ok := ParseCloudURL(s); ok {
			return s, true
		}
		return parsePath(o, s)
	}},
	"enum": {parse: func(o *Option, s string) (any, bool) { return o.oneOf(s) }},
	"csv": {text: true, parse: func(o *Option, s string) (any, bool) {
		var out []string
		for _, item := range strings.Split(s, ",") {
			v, ok := o.oneOf(strings.TrimSpace(item))
			if !ok {
				return nil, false
			}
			out = append(out, v)
		}
		return out, true
	}, format: joined},
	"list": {expects: "names separated by commas, none of them empty", text: true, parse: func(_ *Option, s string) (any, bool) {
		out := strings.Split(s, ",")
		for i, item := range out {
			// Barman keeps the blank of "a, b", and then finds no " b": no disk is called so.
			if out[i] = strings.TrimSpace(item); out[i] == "" {
				return nil, false
			}
		}
		return out, true
	}, format: joined},
	"urls": {expects: "URLs separated by commas: s3://..., gs://..., file:///... or those of Azure containers", text: true, parse: func(_ *Option, s string) (any, bool) {
		out := strings.Split(s, ",")
		for i, item := range out {
			out[i] = strings.TrimRight(strings.TrimSpace(item), "/")
			if _, ok := ParseCloudURL(out[i]); !ok {
				return nil, false
			}
		}
		return out, true
	}, format: joined},
	"tags": {expects: "at most ten NAME=VALUE pairs separated by commas, of letters, digits, blanks and + - . / : _", text: true, parse: func(_ *Option, s string) (any, bool) {
		return parseTags(s)
	}, format: func(v any) string { return v.(Tags).String() }},
	"azure scope": {expects: "the name of an encryption scope: 3 to 63 letters, digits and single hyphens", text: true, parse: func(_ *Option, s string) (any, bool) {
		return s, scopeForm.MatchString(s) && len(s) >= 3 && len(s) <= 63
	}},
	"google key": {expects: "projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY", text: true, parse: func(_ *Option, s string) (any, bool) {
		return s, googleKeyForm.MatchString(s)
	}},
	"dsn": {expects: "a PostgreSQL connection string (keyword=value pairs, or postgresql://)", text: true, parse: func(_ *Option, s string) (any, bool) {
		return DSN{s}, validDSN(s)
	}},
	"secret": {expects: "text", text: true, parse: func(_ *Option, s string) (any, bool) { return Secret{s}, true }},
	"secret URI": {expects: "a file:// URI", text: true, parse: func(_ *Option, s string) (any, bool) {
		return Secret{s}, strings.HasPrefix(s, "file://")
	}},
	"endpoint": {expects: "http://HOST:PORT or https://HOST:PORT, with neither user nor query", text: true, parse: func(_ *Option, s string) (any, bool) {
		return s, ValidEndpoint(s)
	}},
	"private endpoint": {expects: "https://HOST:PORT, or http:// of this host, with neither user nor query", text: true, parse: func(_ *Option, s string) (any, bool) {
		return s, ValidEndpoint(s) && keepsSecrets(s)
	}},
	"retention": {expects: "REDUNDANCY n or RECOVERY WINDOW OF n DAYS, WEEKS or MONTHS", text: true, parse: func(_ *Option, s string) (any, bool) {
		return ParseRetention(s)
	}},
	"schedule": {expects: schedule.Form, text: true, parse: func(_ *Option, s string) (any, bool) {
		spec, err := schedule.Parse(s)
		return spec.String(), err == nil
	}},
	"slot": {expects: "a slot name of lower-case letters, digits and underscores", text: true, parse: func(_ *Option, s string) (any, bool) {
		return s, slotForm.MatchString(s)
	}},
	"level": {expects: "low, medium, high or an integer", text: true, parse: func(_ *Option, s string) (any, bool) {
		switch level := strings.ToLower(s); level {
		case "low", "medium", "high":
			return level, true
		}
		_, err := strconv.Atoi(s)
		return s, err == nil
	}},
	"magic": {expects: "0x and pairs of hexadecimal digits", text: true, parse: func(_ *Option, s string) (any, bool) {
		return s, magicForm.MatchString(s)
	}},
	"timestamp": {expects: "a time in the form YYYY-MM-DDTHH:MM:SS.fffZ", text: true, parse: func(_ *Option, s string) (any, bool) {
		_, err := time.Parse(timestampForm, s)
		return s, err == nil
	}},
	"rates": {expects: "tablespace:kB/s pairs separated by blanks", text: true, parse: func(_ *Option, s string) (any, bool) {
		return parseRates(s)
	}, format: func(v any) string { return v.(Rates).String() }},
}

func verbatim(_ *Option, s string) (any, bool) { return s, true }

func joined(v any) string { return strings.Join(v.([]string), ",") }

func parsePath(_ *Option, s string) (any, bool) {
	return filepath.Clean(s), filepath.IsAbs(s) && !strings.ContainsAny(s, "\x00\n")
}

func parseInt(o *Option, s string) (int, bool) {
	n, err := strconv.Atoi(s)
	if err != nil || (o.Min != nil && n < *o.Min) || (o.Max != nil && n > *o.Max) {
		return 0, false
	}
	return n, true
}

// Rates are limits in kB/s by tablespace name.
type Rates map[string]int

func parseRates(s string) (Rates, bool) {
	out := Rates{}
	for _, pair := range strings.Fields(s) {
		cut := strings.LastIndexByte(pair, ':')
		if cut < 1 {
			return nil, false
		}
		n, err := strconv.Atoi(pair[cut+1:])
		if err != nil || n < 0 {
			return nil, false
		}
		out[pair[:cut]] = n
	}
	return out, true
}

// String is in the order of the names.
func (r Rates) String() string {
	pairs := make([]string, 0, len(r))
	for _, name := range sortedKeys(r) {
		pairs = append(pairs, fmt.Sprintf("%s:%d", name, r[name]))
	}
	return strings.Join(pairs, " ")
}
