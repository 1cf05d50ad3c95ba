// Package logging opens the log that log_file and log_level describe.
package logging

import (
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Open returns a structured logger that writes to the terminal and, when file
// is not empty, appends to file. The level is one of Barman's names.
func Open(terminal io.Writer, file, level string) (*slog.Logger, error) {
	w := terminal
	if file != "" {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, fault.New(fault.Config, "open log_file", file, "%w", err).
				WithHint("let log_file name a file that barman_user may write, or leave it out")
		}
		w = io.MultiWriter(terminal, f)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: Level(level)})), nil
}

// Level reads one of Barman's level names.
func Level(name string) slog.Level {
	switch strings.ToUpper(name) {
	case "DEBUG":
		return slog.LevelDebug
	case "WARNING":
		return slog.LevelWarn
	case "ERROR", "CRITICAL":
		return slog.LevelError
	}
	return slog.LevelInfo
}
