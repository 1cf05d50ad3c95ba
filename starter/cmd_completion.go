package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/spelling"
)

var shells = []string{"bash", "zsh", "fish"}

func (a *app) cmdCompletion() *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "Print a script that lets the shell complete commands, servers and backups",
		Long: `Prints the script for a shell. With it the shell completes commands, options, the names
of servers, and the IDs and names of their backups.`,
		Example: "  holdfast completion bash > /etc/bash_completion.d/holdfast\n  holdfast completion zsh > /usr/share/zsh/site-functions/_holdfast\n" +
			"  holdfast completion fish > /etc/fish/completions/holdfast.fish\n  source <(holdfast completion bash)",
		ValidArgs: shells, Args: exactly("SHELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.json = nil // stdout belongs to the script
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			case "fish":
				return root.GenFishCompletion(a.stdout, true)
			}
			return fault.New(fault.Usage, "complete for", args[0], "the shells are %s", join(shells)).WithHint("%s", spelling.DidYouMean(args[0], shells))
		},
	}
}
