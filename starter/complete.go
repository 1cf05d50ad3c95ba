package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/report"
)

// offerArguments lets every command below cmd complete its arguments.
func (a *app) offerArguments(cmd *cobra.Command) {
	if cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 && !cmd.HasSubCommands() {
		cmd.ValidArgsFunction = a.completeArgument
	}
	for _, c := range cmd.Commands() {
		a.offerArguments(c)
	}
}

// offer lets an option complete its value.
func offer(cmd *cobra.Command, option string, values ...string) {
	// It fails for an option that does not exist, which no test would miss.
	_ = cmd.RegisterFlagCompletionFunc(option, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// arguments are the names of a command's arguments, as its usage line has them.
func arguments(use string) []string {
	var out []string
	option := false
	for _, word := range strings.Fields(use)[1:] {
		option = option || strings.HasPrefix(word, "[-")
		if !option {
			out = append(out, strings.Trim(word, "[]"))
		}
		option = option && !strings.HasSuffix(word, "]")
	}
	return out
}

// completeArgument offers what may stand at the argument that is being typed.
func (a *app) completeArgument(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	names := arguments(cmd.Use)
	at := len(args)
	if n := len(names); n > 0 && at >= n && strings.HasSuffix(names[n-1], "...") {
		at = n - 1
	}
	if at >= len(names) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	switch names[at] {
	case "SERVER":
		out = a.serverNames()
	case "SERVER...":
		out = append(a.serverNames(), allServers+"\tevery server")
	case "MODEL":
		out = a.modelNames(args[0])
	case "BACKUP", "BACKUP...":
		out = a.backupNames(args[0])
	case "DEST", "DIR", "FILE":
		return nil, cobra.ShellCompDirectiveDefault
	}
	return slices.DeleteFunc(out, func(word string) bool {
		word, _, _ = strings.Cut(word, "\t")
		return slices.Contains(args, word)
	}), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// serverNames are the servers with their descriptions, as completions.
func (a *app) serverNames() []string {
	cfg, err := a.config()
	if err != nil {
		return nil
	}
	var out []string
	for _, s := range cfg.Servers() {
		out = append(out, cobra.CompletionWithDesc(s.Name, s.Description))
	}
	return out
}

// modelNames are the models that fit a server.
func (a *app) modelNames(server string) []string {
	s, err := a.server(server)
	if err != nil {
		return nil
	}
	var out []string
	for name, cluster := range a.cfg.Models() {
		if cluster == s.Cluster {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// backupNames are the words, names and IDs of a server's backups, newest
// first, as completions.
func (a *app) backupNames(server string) []string {
	_, cat, err := a.catalog(server)
	if err != nil {
		return nil
	}
	backups, _, err := cat.List()
	if err != nil {
		return nil
	}
	words := []string{"latest", "oldest", "latest-full", "last-failed"}
	var ids []string
	for _, b := range slices.Backward(backups) {
		what := string(b.Status) + ", " + string(report.TypeOf(b))
		ids = append(ids, cobra.CompletionWithDesc(string(b.ID), what))
		if b.BackupName != nil {
			words = append(words, cobra.CompletionWithDesc(*b.BackupName, string(b.ID)+", "+what))
		}
	}
	return append(words, ids...)
}
