// Package config reads Barman's configuration files into typed values.
//
// Every option is declared once, as a struct field whose tags give its name,
// type, range, default, scope and meaning (see Option). Reading, validation,
// `show-servers` and docs/configuration.md all come from those declarations.
//
// A mistake in a file is a Problem with file and line, not an error: one broken
// server must not stop the others. The package decides nothing about backups
// beyond what the files themselves make impossible or this version cannot do,
// and it never prints a secret.
package config

//go:generate go test . -run TestReference -update
