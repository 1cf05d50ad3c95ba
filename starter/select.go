package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/spelling"
)

// allServers is the word that stands for every server, as for Barman.
const allServers = "all"

// described are the named servers, also those whose configuration has errors.
func (a *app) described(names []string) ([]*config.Server, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	if slices.Contains(names, allServers) {
		return cfg.Servers(), nil
	}
	var out []*config.Server
	for _, name := range names {
		found := slices.IndexFunc(cfg.Servers(), func(s *config.Server) bool { return s.Name == name })
		if found < 0 {
			_, err := cfg.Server(name)
			return nil, err
		}
		out = append(out, cfg.Servers()[found])
	}
	return out, nil
}

// usable are the named servers. Of all servers, disabled ones are left out
// with a warning.
func (a *app) usable(names []string) ([]*config.Server, error) {
	list, err := a.described(names)
	if err != nil {
		return nil, err
	}
	var out []*config.Server
	for _, s := range list {
		switch _, err := a.server(s.Name); {
		case err == nil:
			out = append(out, s)
		case slices.Contains(names, allServers):
			a.warn("server %s is left out: %v", s.Name, err)
		default:
			return nil, err
		}
	}
	return out, nil
}

// atLeastOne refuses a command without arguments in words.
func atLeastOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return nil
		}
		return fault.New(fault.Usage, "", "", "%s wants a %s", cmd.CommandPath(), name).WithHint("usage: %s", cmd.UseLine())
	}
}

// unknownCommand refuses an argument where a command should be.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	e := fault.New(fault.Usage, "", "", "%s has no command %s", cmd.CommandPath(), args[0])
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			names = append(append(names, c.Aliases...), c.Name())
		}
	}
	if like := spelling.DidYouMean(args[0], names); like != "" {
		return e.WithHint("%s", like)
	}
	return e.WithHint("%s --help lists the commands", cmd.CommandPath())
}

// badFlag explains an option that cobra refused.
func badFlag(cmd *cobra.Command, err error) error {
	e := fault.New(fault.Usage, "", "", "%w", err).WithHint("%s --help lists the options", cmd.CommandPath())
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !unknown {
		return e
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if like := spelling.Nearest(name, names); like != "" {
		return e.WithHint("did you mean --%s?", like)
	}
	return e
}

// print writes a line of the answer itself; in JSON mode the object is the answer.
func (a *app) print(format string, args ...any) {
	if a.format != "json" && !a.quiet {
		fmt.Fprintf(a.stdout, format+"\n", args...)
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// exitCodes documents a command's own codes.
func exitCodes(lines ...string) map[string]string {
	return map[string]string{exitAnnotation: strings.Join(lines, "\n")}
}

const exitAnnotation = "exit codes"
