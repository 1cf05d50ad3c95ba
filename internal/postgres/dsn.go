package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sort"
	"strings"
)

// DSN is a parsed connection string, keyword by keyword.
type DSN map[string]string

// ParseDSN reads both forms of a connection string (PostgreSQL manual,
// "Connection Strings"). The error never repeats the string.
func ParseDSN(s string) (DSN, error) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://") {
		return parseURI(s)
	}
	d := DSN{}
	for i := 0; i < len(s); {
		if isBlank(s[i]) {
			i++
			continue
		}
		eq := strings.IndexByte(s[i:], '=')
		if eq <= 0 {
			return nil, errors.New("a connection string consists of keyword=value pairs; there is one without an equals sign")
		}
		key := strings.TrimSpace(s[i : i+eq])
		if strings.ContainsAny(key, " \t\n'") {
			return nil, errors.New("a connection string consists of keyword=value pairs; there is one without an equals sign")
		}
		i += eq + 1
		for i < len(s) && isBlank(s[i]) {
			i++
		}
		var value strings.Builder
		quoted := i < len(s) && s[i] == '\''
		if quoted {
			i++
		}
		closed := !quoted
		for ; i < len(s); i++ {
			if s[i] == '\\' && i+1 < len(s) {
				i++
			} else if quoted && s[i] == '\'' {
				closed = true
				i++
				break
			} else if !quoted && isBlank(s[i]) {
				break
			}
			value.WriteByte(s[i])
		}
		if !closed {
			return nil, fmt.Errorf("the value of %s has no closing quote", key)
		}
		d[key] = value.String()
	}
	return d, nil
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func parseURI(s string) (DSN, error) {
	u, err := url.Parse(s)
	if err != nil {
		// url.Error repeats its input, which may hold a password.
		return nil, errors.New("the connection URI cannot be parsed")
	}
	d := DSN{}
	if u.User != nil {
		d["user"] = u.User.Username()
		if p, ok := u.User.Password(); ok {
			d["password"] = p
		}
	}
	var hosts, ports []string
	for _, hp := range strings.Split(u.Host, ",") {
		host, port, err := net.SplitHostPort(hp)
		if err != nil {
			host, port = strings.Trim(hp, "[]"), ""
		}
		hosts, ports = append(hosts, host), append(ports, port)
	}
	if h := strings.Join(hosts, ","); h != "" {
		d["host"] = h
	}
	if p := strings.Join(ports, ","); strings.Trim(p, ",") != "" {
		d["port"] = p
	}
	if db := strings.TrimPrefix(u.Path, "/"); db != "" {
		d["dbname"] = db
	}
	for k, v := range u.Query() {
		d[k] = v[len(v)-1]
	}
	return d, nil
}

// String is the keyword form, without the password: fit for a command line.
func (d DSN) String() string {
	keys := make([]string, 0, len(d))
	for k := range d {
		if k != "password" {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = k + "=" + d.quoted(k)
	}
	return strings.Join(parts, " ")
}

// WithPassword is the keyword form with everything: never log it, never put it
// into an argument.
func (d DSN) WithPassword() string {
	if _, ok := d["password"]; !ok {
		return d.String()
	}
	return d.String() + " password=" + d.quoted("password")
}

func (d DSN) quoted(key string) string {
	v := d[key]
	if v == "" || strings.ContainsAny(v, " \t\n\\'") {
		v = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
	}
	return v
}

// With returns a copy with a keyword set unless it is there already.
func (d DSN) With(key, value string) DSN {
	out := DSN{}
	for k, v := range d {
		out[k] = v
	}
	if _, ok := out[key]; !ok {
		out[key] = value
	}
	return out
}

// Address names the server for people: host and port, no user, no password.
func (d DSN) Address() string {
	host, port := d["host"], d["port"]
	if host == "" {
		host = cmp.Or(d["hostaddr"], os.Getenv("PGHOST"), "the local socket")
	}
	if port == "" {
		port = cmp.Or(os.Getenv("PGPORT"), "5432")
	}
	return host + " port " + port
}
