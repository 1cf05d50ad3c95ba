package ssh

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/command"
)

// option is one of ssh_config(5), with the value that says that nobody set it.
type option struct{ name, value, unset string }

// ours keep ssh from asking questions that nobody answers, and from waiting for
// ever for a host that is gone.
var ours = []option{
	{"BatchMode", "yes", "no"},
	{"ConnectTimeout", "15", "none"},
	{"ServerAliveInterval", "10", "0"},
}

// isOpenSSH reports whether a command is known to take OpenSSH's options.
func isOpenSSH(words []string) bool { return filepath.Base(words[0]) == "ssh" }

// complete returns the options that words should be given, and whether their
// connection may be shared: it is not when the user arranges that already.
func complete(ctx context.Context, program string, words []string) (options []string, share bool) {
	if !isOpenSSH(words) {
		return nil, false
	}
	var out bytes.Buffer
	// It only prints what would be in force.
	if err := command.Run(ctx, command.Spec{Path: program, Args: append([]string{"-G"}, words[1:]...), Stdout: &out}); err != nil {
		return nil, false
	}
	inForce := map[string]string{}
	for line := range strings.Lines(out.String()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		inForce[name] = value
	}
	unset := func(name, value string) bool {
		now, known := inForce[strings.ToLower(name)]
		return known && now == value && !names(words[1:], name)
	}
	for _, o := range ours {
		if unset(o.name, o.unset) {
			options = append(options, "-o", o.name+"="+o.value)
		}
	}
	_, path := inForce["controlpath"]
	return options, !path && unset("ControlMaster", "false")
}

// names reports whether a command line sets an option by its name.
func names(words []string, option string) bool {
	for i, w := range words {
		text, is := strings.CutPrefix(w, "-o")
		if is && text == "" && i+1 < len(words) {
			text = words[i+1]
		}
		name, _, _ := strings.Cut(strings.ReplaceAll(text, " ", "="), "=")
		if is && strings.EqualFold(name, option) {
			return true
		}
	}
	return false
}
