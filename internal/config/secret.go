package config

import (
	"fmt"
	"io"
	"net/url"
	"strings"
)

const redacted = "***"

// DSN is a PostgreSQL connection string. However it is printed, its passwords
// are not.
type DSN struct{ text string }

// NewDSN makes a DSN of a string.
func NewDSN(text string) DSN { return DSN{text} }

// Reveal is the connection string as written.
func (d DSN) Reveal() string { return d.text }

// IsZero reports whether there is none.
func (d DSN) IsZero() bool { return d.text == "" }

// String is the connection string with each secret replaced; one that cannot
// be understood is replaced as a whole.
func (d DSN) String() string {
	if d.text == "" {
		return ""
	}
	if rest, ok := uriRest(d.text); ok {
		return redactURI(d.text[:len(d.text)-len(rest)], rest)
	}
	return redactKeywords(d.text)
}

// GoString keeps %#v from printing the text.
func (d DSN) GoString() string { return fmt.Sprintf("config.DSN(%q)", d.String()) }

// Format keeps every other verb from printing it.
func (d DSN) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, d.String()) }

// MarshalText makes JSON and logs carry the redacted form.
func (d DSN) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Secret is a value that is not printed at all.
type Secret struct{ text string }

// Reveal is the value.
func (s Secret) Reveal() string { return s.text }

// String says only whether there is a value.
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return redacted
}

// GoString keeps %#v from printing the value.
func (s Secret) GoString() string { return fmt.Sprintf("config.Secret(%q)", s.String()) }

// Format keeps every other verb from printing it.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText makes JSON and logs carry the redacted form.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// dsnKeywords are the connection parameters of libpq up to PostgreSQL 18. An
// unknown one is most often a piece of a password that lacks its quotes.
var dsnKeywords = wordSet(`host hostaddr port dbname user password passfile require_auth channel_binding
	connect_timeout client_encoding options application_name fallback_application_name keepalives
	keepalives_idle keepalives_interval keepalives_count tcp_user_timeout replication gssencmode sslmode
	requiressl sslnegotiation sslcompression sslcert sslkey sslkeylogfile sslpassword sslcertmode
	sslrootcert sslcrl sslcrldir sslsni requirepeer ssl_min_protocol_version ssl_max_protocol_version
	min_protocol_version max_protocol_version krbsrvname gsslib gssdelegation scram_client_key
	scram_server_key service servicefile target_session_attrs load_balance_hosts oauth_issuer
	oauth_client_id oauth_client_secret oauth_scope authtype tty ssl`)

var dsnSecrets = wordSet("password sslpassword scram_client_key scram_server_key oauth_client_secret")

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

// validDSN reports whether libpq would understand the string.
func validDSN(s string) bool {
	if s == "" {
		return false
	}
	return NewDSN(s).String() != redacted
}

func redactKeywords(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		if blank(s[i]) {
			b.WriteByte(s[i])
			i++
			continue
		}
		eq := strings.IndexByte(s[i:], '=')
		if eq < 1 {
			return redacted
		}
		key := strings.TrimRight(s[i:i+eq], " \t\r\n\f\v")
		if !dsnKeywords[key] {
			return redacted
		}
		start := i + eq + 1
		for start < len(s) && blank(s[start]) {
			start++
		}
		end, ok := valueEnd(s, start)
		if !ok {
			return redacted
		}
		if dsnSecrets[key] {
			b.WriteString(key + "=" + redacted)
		} else {
			b.WriteString(s[i:end])
		}
		i = end
	}
	return b.String()
}

// valueEnd finds the end of the value that begins at i.
func valueEnd(s string, i int) (int, bool) {
	quoted := i < len(s) && s[i] == '\''
	if quoted {
		i++
	}
	for ; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case quoted && s[i] == '\'':
			i++
			// libpq would take what follows at once for the next keyword.
			return i, i == len(s) || blank(s[i])
		case !quoted && blank(s[i]):
			return i, true
		}
	}
	return len(s), !quoted && i == len(s)
}

func blank(c byte) bool { return strings.IndexByte(" \t\r\n\f\v", c) >= 0 }

func uriRest(s string) (string, bool) {
	if rest, ok := strings.CutPrefix(s, "postgresql://"); ok {
		return rest, true
	}
	return strings.CutPrefix(s, "postgres://")
}

func redactURI(scheme, rest string) string {
	base, query, hasQuery := strings.Cut(rest, "?")
	var user string
	// The last @: what a password might hold stays on the hidden side.
	if at := strings.LastIndexByte(base, '@'); at >= 0 {
		user, base = base[:at], base[at+1:]
		if strings.ContainsAny(user, "/ \n") {
			return redacted
		}
		if name, _, has := strings.Cut(user, ":"); has {
			user = name + ":" + redacted
		}
		user += "@"
	}
	hosts, _, _ := strings.Cut(base, "/")
	if !validHosts(hosts) || strings.ContainsAny(base, " \n") {
		return redacted
	}
	if !hasQuery {
		return scheme + user + base
	}
	params := strings.Split(query, "&")
	for i, param := range params {
		key, _, has := strings.Cut(param, "=")
		name, err := url.PathUnescape(key)
		if err != nil || !has || !dsnKeywords[name] {
			return redacted
		}
		if dsnSecrets[name] {
			params[i] = key + "=" + redacted
		}
	}
	return scheme + user + base + "?" + strings.Join(params, "&")
}

// validHosts reads host[:port],...; a password that lost its @ fails as a port.
func validHosts(list string) bool {
	for _, host := range strings.Split(list, ",") {
		if strings.HasPrefix(host, "[") {
			_, after, ok := strings.Cut(host, "]")
			if !ok || (after != "" && after[0] != ':') {
				return false
			}
			host = after
		}
		if _, port, has := strings.Cut(host, ":"); has && strings.Trim(port, "0123456789") != "" {
			return false
		}
	}
	return true
}
