package ssh

import (
	"errors"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// failed is ssh's exit code when it could not do what it was asked to.
const failed = 255

// signs are what ssh says of itself, the more telling first. It has no other
// language and no other way to say it.
var signs = []struct {
	text string
	kind fault.Kind
	what string
	hint string
}{
	{"REMOTE HOST IDENTIFICATION HAS CHANGED", fault.Refused, "the key of the host is not the one that is known",
		"find out why it has changed: another machine may answer in its place. If the new key is right, remove the old one with ssh-keygen -R and log in once by hand, as the user that takes the backup"},
	{"host key is known for", fault.Refused, "the host is not known here",
		"log in once by hand, as the user that takes the backup, and compare the key that ssh shows with that of the host"},
	{"Host key verification failed", fault.Refused, "the key of the host was not accepted",
		"log in once by hand, as the user that takes the backup: ssh says there what it dislikes"},
	{"Permission denied", fault.Permission, "the host does not let us log in",
		"add the public key of the user that takes the backup to ~/.ssh/authorized_keys of the user on the host; a key with a passphrase needs an agent"},
	{"Too many authentication failures", fault.Permission, "the host has refused all keys that it was offered",
		"name the right key with -i and IdentitiesOnly=yes in ssh_command"},
	{"Bad configuration option", fault.Config, "ssh does not know an option", "correct ssh_command, or ssh_config"},
	{"Bad owner or permissions", fault.Config, "ssh does not trust one of its files", "give that file to the user that takes the backup, with mode 0600"},
	{"Could not resolve hostname", fault.Connection, "the name of the host has no address", "correct the name in ssh_command, or the name service"},
	{"timed out", fault.Connection, "the host does not answer", "look whether the host runs, and whether a firewall lets ssh through"},
	{"not responding", fault.Connection, "the host has stopped to answer", "look whether the host runs, and at the network between"},
	{"Connection refused", fault.Connection, "nothing listens there", "start sshd on the host, or correct host and port in ssh_command"},
}

// explain gives the failure of a script a meaning.
func explain(words []string, err error) error {
	var exit *command.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	subject := strings.Join(words, " ")
	if exit.Signal != "" {
		return fault.New(fault.Connection, "log in with", subject, "ssh was %s", exit.Signal).
			WithHint("something ended ssh; if nobody did, look for the kernel's out-of-memory killer: dmesg | grep -i oom")
	}
	if exit.Code != failed {
		return err
	}
	for _, s := range signs {
		if line := lineWith(exit.Stderr, s.text); line != "" {
			return fault.New(s.kind, "log in with", subject, "%s: %s", s.what, line).WithHint("%s", s.hint)
		}
	}
	return fault.New(fault.Connection, "log in with", subject, "%s", lastLine(exit.Stderr)).
		WithHint("try it by hand, as the user that takes the backup: %s true", subject)
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return strings.Trim(strings.TrimSpace(line), "@ ")
		}
	}
	return ""
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return last
	}
	return "ssh ended without a word"
}
