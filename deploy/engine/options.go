package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/server/common/dynamicconfig"
)

// options is the command line, validated.
type options struct {
	stateDir   string
	dbFile     string // empty: everything in memory, which only "server start-dev" may ask for
	lockFile   string
	readyFile  string // empty: no engine.json
	ip         string
	port       int
	uiPort     int
	namespaces []string
	attributes map[string]enumspb.IndexedValueType
	dynamic    map[dynamicconfig.Key]any
	logLevel   string
	logFormat  string
}

// repeated collects an option that may be given several times.
type repeated []string

func (r *repeated) String() string     { return strings.Join(*r, ",") }
func (r *repeated) Set(s string) error { *r = append(*r, s); return nil }

// parse reads the options. "server start-dev" in front of them selects the dialect of
// Temporal's own development server, as the SDK's testsuite.StartDevServer speaks it.
func parse(args []string, usage io.Writer) (options, error) {
	dev := len(args) >= 2 && args[0] == "server" && args[1] == "start-dev"
	if dev {
		args = args[2:]
	}
	var o options
	var namespaces, attributes, dynamic repeated
	var dbFile string
	var headless bool
	f := flag.NewFlagSet("holdfast-engine", flag.ContinueOnError)
	f.SetOutput(usage)
	f.StringVar(&o.stateDir, "state-dir", "", "directory of the engine's database, lock and engine.json")
	f.StringVar(&o.ip, "ip", "127.0.0.1", "address to listen on; the engine has no authentication of its own")
	f.IntVar(&o.port, "port", 7233, "gRPC port; 0 chooses a free one")
	f.IntVar(&o.uiPort, "ui-port", 0, "port of the Temporal UI; 0 for no UI")
	f.Var(&namespaces, "namespace", "namespace to register (repeatable; default holdfast)")
	f.StringVar(&o.logLevel, "log-level", "error", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "json", "json or console")
	f.StringVar(&dbFile, "db-filename", "", "database file, in place of --state-dir")
	f.BoolVar(&headless, "headless", false, "no UI")
	f.Var(&attributes, "search-attribute", "further search attribute as NAME=TYPE (repeatable)")
	f.Var(&dynamic, "dynamic-config-value", "Temporal dynamic configuration as KEY=JSON (repeatable)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: options begin with --", f.Arg(0))
	}
	if o.namespaces = namespaces; len(namespaces) == 0 {
		o.namespaces = []string{"holdfast"}
	}
	switch {
	case headless:
		o.uiPort = 0
	case dev && o.uiPort == 0 && o.port != 0:
		o.uiPort = o.port + 1000
	}
	return o, errors.Join(
		o.setFiles(dbFile, dev), o.setAddress(), o.setLog(),
		o.setAttributes(attributes), o.setDynamic(dynamic),
	)
}

func (o *options) setFiles(dbFile string, dev bool) error {
	switch {
	case o.stateDir != "" && dbFile != "":
		return errors.New("--state-dir and --db-filename exclude each other: give one")
	case o.stateDir != "":
		dir, err := filepath.Abs(o.stateDir)
		if err != nil {
			return err
		}
		o.stateDir = dir
		o.dbFile = filepath.Join(dir, "engine.db")
		o.lockFile = filepath.Join(dir, "engine.lock")
		o.readyFile = filepath.Join(dir, "engine.json")
	case dbFile != "":
		file, err := filepath.Abs(dbFile)
		if err != nil {
			return err
		}
		o.stateDir, o.dbFile, o.lockFile = filepath.Dir(file), file, file+".lock"
	case !dev:
		return errors.New("--state-dir is missing: name the directory that keeps the engine's database")
	}
	return nil
}

func (o *options) setAddress() error {
	if o.ip == "localhost" {
		o.ip = "127.0.0.1"
	}
	var errs []error
	if net.ParseIP(o.ip) == nil {
		errs = append(errs, fmt.Errorf("--ip %q is not an IP address", o.ip))
	}
	for name, port := range map[string]int{"--port": o.port, "--ui-port": o.uiPort} {
		if port < 0 || port > 65535 {
			errs = append(errs, fmt.Errorf("%s %d is not between 0 and 65535", name, port))
		}
	}
	if o.port != 0 && o.port == o.uiPort {
		errs = append(errs, fmt.Errorf("--port and --ui-port are both %d: they must differ", o.port))
	}
	return errors.Join(errs...)
}

func (o *options) setLog() error {
	switch o.logFormat {
	case "pretty", "text":
		o.logFormat = "console"
	case "json", "console":
	default:
		return fmt.Errorf("--log-format %q: choose json or console", o.logFormat)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, o.logLevel) {
		return fmt.Errorf("--log-level %q: choose debug, info, warn or error", o.logLevel)
	}
	return nil
}

// setAttributes adds what the caller asks for to what Holdfast's workflows always set.
func (o *options) setAttributes(asked []string) error {
	o.attributes = map[string]enumspb.IndexedValueType{}
	for _, name := range []string{"HoldfastServer", "HoldfastMethod", "HoldfastBackupID", "HoldfastPhase"} {
		o.attributes[name] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
	}
	for _, a := range asked {
		name, kind, _ := strings.Cut(a, "=")
		value, err := enumspb.IndexedValueTypeFromString(kind)
		if err != nil || name == "" || value == enumspb.INDEXED_VALUE_TYPE_UNSPECIFIED {
			return fmt.Errorf("--search-attribute %q is not NAME=TYPE with a type that Temporal knows, such as Keyword", a)
		}
		o.attributes[name] = value
	}
	return nil
}

func (o *options) setDynamic(asked []string) error {
	o.dynamic = map[dynamicconfig.Key]any{}
	for _, d := range asked {
		key, text, _ := strings.Cut(d, "=")
		var value any
		if err := json.Unmarshal([]byte(text), &value); err != nil || key == "" {
			return fmt.Errorf("--dynamic-config-value %q is not KEY=JSON", d)
		}
		o.dynamic[dynamicconfig.MakeKey(key)] = value
	}
	return nil
}
