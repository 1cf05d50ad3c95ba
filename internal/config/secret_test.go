package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestDSN(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "",
		"host=pg":                            "host=pg",
		"host = pg  password = geheim":       "host = pg  password=***",
		`password='a\' geheim' user=u`:       "password=*** user=u",
		`user='o\'b'  sslpassword=geheim\ x`: `user='o\'b'  sslpassword=***`,
		"password=":                          "password=***",
		"postgres://u:geheim@h/db":           "postgres://u:***@h/db",
		"postgresql://u:a@geheim@h,[::1]:5/db?sslmode=x&pass%77ord=geheim": "postgresql://u:***@h,[::1]:5/db?sslmode=x&pass%77ord=***",
		"postgresql://":                   "postgresql://",
		"postgresql:///db?user=a@b":       "postgresql:///db?user=a@b",
		"postgresql://u:geheim":           redacted,
		"postgresql://u:gehe/im@h":        redacted,
		"postgresql://u:ge?heim@h":        redacted,
		"postgresql://h/?passwort=geheim": redacted,
		"password=my geheim":              redacted,
		"password='geheim":                redacted,
		"password='my'geheim":             redacted,
		"host=pg geheim =x":               redacted,
		"geheim":                          redacted,
	} {
		d := NewDSN(text)
		if d.String() != want || d.Reveal() != text || d.IsZero() != (text == "") {
			t.Errorf("%q: %q", text, d.String())
		}
		if valid := validDSN(text); valid != (text != "" && want != redacted) {
			t.Errorf("%q: valid %v", text, valid)
		}
	}
}

// printed shows a value in every way that a program prints by.
func printed(v any) string {
	var b strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		fmt.Fprintf(&b, verb+"\n", v)
	}
	text, err := json.Marshal(v)
	fmt.Fprintf(&b, "%s %v\n", text, err)
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
	return b.String()
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	text := base + `
[DEFAULT]
pw = geheim
[main]
backup_method = postgres
conninfo = host=pg password=%(pw)s
streaming_conninfo = postgresql://u:geheim@pg
primary_conninfo = password='geheim
wal_conninfo = password=100%geheim
encryption_passphrase_command = echo geheim
aws_sse_customer_key = file:///geheim
description = %(conninfo)s and %(pw)s
slot_name = %(PW)s
reuse_backup = %(pw)s
pasword = geheim
geheim
`
	c := load(t, map[string]string{"barman.conf": text})
	s := c.servers["main"]
	if s.Conninfo.Reveal() != "host=pg password=geheim" || s.EncryptionPassphrase.Reveal() != "echo geheim" {
		t.Errorf("the secrets themselves are lost: %q", s.Conninfo.Reveal())
	}
	var out strings.Builder
	for _, v := range []any{s.Conninfo, &s.StreamingConninfo, s.EncryptionPassphrase, s.AWSSSECustomerKey, s.ConnectionOptions, s.CloudOptions, s.CopyOptions, c.Problems, s.Problems(), s.UnsupportedForBackup()} {
		out.WriteString(printed(v))
	}
	s.Each(func(o Option, value string, origin Origin) { fmt.Fprintln(&out, o.Name, value, origin) })
	_, err := c.Server("main")
	fmt.Fprintln(&out, err)
	if strings.Contains(out.String(), "geheim") || strings.Contains(out.String(), fmt.Sprintf("%x", "geheim")) {
		for _, line := range strings.Split(out.String(), "\n") {
			if strings.Contains(line, "geheim") {
				t.Error(line)
			}
		}
	}
	for _, want := range []string{"host=pg password=***", "%(conninfo)s and %(pw)s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
}

// FuzzDSN hides a password in text before and after: it must not come out again.
func FuzzDSN(f *testing.F) {
	for _, s := range []string{"host=pg", "postgresql://u:", "@h/db", "' \\", "?sslmode=x&"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "S3cr3tS3cr3t"
		if strings.Contains(before+after, secret) || strings.ContainsAny(before, "\\'") {
			return
		}
		for _, text := range []string{before + " password=" + secret + after, "postgresql://u:" + secret + "@h" + after} {
			if got := NewDSN(text).String(); strings.HasPrefix(strings.TrimSpace(before), "postgres") {
				continue
			} else if strings.Contains(got, secret) {
				t.Errorf("%q: %q", text, got)
			}
		}
	})
}
