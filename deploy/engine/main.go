// holdfast-engine is a Temporal server in one process: its database is one SQLite file, its UI has a
// port of its own, and the namespace and search attributes that Holdfast's workflows need are there
// when it says that it is ready. It knows nothing of backups; a Temporal cluster can take its place.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	tlog "go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// stopPatience bounds a graceful stop. What was acknowledged is on disk, so leaving early loses nothing.
const stopPatience = 5 * time.Second

func main() {
	o, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		fmt.Fprintln(os.Stderr, "holdfast-engine:", err)
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "holdfast-engine:", err)
		os.Exit(1)
	}
}

// ready is what engine.json and the line on stdout say.
type ready struct {
	Address string `json:"address"`
	UI      string `json:"ui"`
	PID     int    `json:"pid"`
}

func run(ctx context.Context, o options) error {
	logger := tlog.NewZapLogger(tlog.BuildZapLogger(tlog.Config{Level: o.logLevel, Format: o.logFormat}))
	if o.lockFile != "" {
		f, err := lock(o.lockFile)
		if err != nil {
			return err
		}
		defer f.Close()
	}
	if err := withdraw(o.readyFile); err != nil {
		return err
	}
	if err := claimPorts(&o); err != nil {
		return err
	}
	if ip := net.ParseIP(o.ip); !ip.IsLoopback() {
		logger.Warn("the engine can be reached from other machines and has no authentication", tag.NewStringTag("ip", o.ip))
	}
	store, err := openStore(o)
	if err != nil {
		return err
	}
	srv, err := newServer(o, store, logger)
	if err != nil {
		return err
	}
	if err := srv.Start(); err != nil {
		return err
	}
	r := ready{Address: address(dialable(o.ip), o.port), PID: os.Getpid()}
	uiFailed := make(chan error, 1)
	if o.uiPort != 0 {
		r.UI = "http://" + address(dialable(o.ip), o.uiPort)
		ui := newUI(o)
		go func() { uiFailed <- ui.Start() }()
		defer ui.Stop()
	}
	err = makeReady(ctx, r.Address, o)
	if err == nil {
		err = announce(o.readyFile, r)
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-uiFailed:
			err = fmt.Errorf("the UI on port %d ended: %w", o.uiPort, err)
		}
	}
	if ctx.Err() != nil {
		err = nil
	}
	err = errors.Join(err, withdraw(o.readyFile))
	stop(srv.Stop, logger)
	return err
}

// announce tells whoever waits for the engine where it is.
func announce(file string, r ready) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if file != "" {
		if err := writeAtomically(file, line); err != nil {
			return err
		}
	}
	_, err = os.Stdout.Write(line)
	return err
}

// withdraw removes what announce wrote, also when a killed engine could not.
func withdraw(file string) error {
	if file == "" {
		return nil
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func stop(server func() error, logger tlog.Logger) {
	done := make(chan error, 1)
	go func() { done <- server() }()
	select {
	case err := <-done:
		if err != nil {
			logger.Warn("stopping the server", tag.Error(err))
		}
	case <-time.After(stopPatience):
		logger.Warn("the server did not stop in time", tag.NewStringTag("patience", stopPatience.String()))
	}
}
