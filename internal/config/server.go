package config

import (
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
)

// Server is one server with every option resolved: model, then its own
// section, then [barman], then the default.
type Server struct {
	Name string

	GeneralOptions    `topic:"General"`
	ConnectionOptions `topic:"Connection"`
	CopyOptions       `topic:"Backup"`
	WALOptions        `topic:"WAL and restore"`
	RetentionOptions  `topic:"Retention"`
	CloudOptions      `topic:"Cloud"`
	SnapshotOptions   `topic:"Snapshots"`
	HookOptions       `topic:"Hooks"`
	HoldfastOptions   `topic:"Holdfast's own"`

	MetaDirectory         string
	LockDirectory         string    // barman_lock_directory
	ConfigFile            string    // the main configuration file
	ActiveModel           string    // "" when none is active
	BasebackupsCloud      *CloudURL // nil when BasebackupsDirectory is local
	WALsCloud             *CloudURL // nil when WALsDirectory is local
	Passive               bool      // backups are copied from the primary backup host
	Concurrent            bool
	Exclusive             bool
	ExternalConfiguration bool

	header   Origin
	settled  settled
	problems []Problem
}

// Problems are those that concern this server, warnings included.
func (s *Server) Problems() []Problem { return slices.Clone(s.problems) }

// Disabled reports whether its configuration has errors.
func (s *Server) Disabled() bool { return len(errorsOf(s.problems)) > 0 }

// Origin is where the value of the named option came from.
func (s *Server) Origin(option string) Origin {
	if o := named(serverOptions, option); o != nil {
		return s.originOf(o)
	}
	return Origin{Default: true}
}

// Each calls f for every option, with its value as a file could hold it ("" when
// unset) and without secrets.
func (s *Server) Each(f func(option Option, value string, origin Origin)) {
	for _, o := range serverOptions {
		f(*o, s.shown(o), s.originOf(o))
	}
}

func (s *Server) originOf(o *Option) Origin {
	if origin, set := s.settled.origin[o]; set {
		return origin
	}
	return Origin{Default: true}
}

func (s *Server) shown(o *Option) string {
	if o.Scope == "" {
		return strconv.FormatBool(s.Disabled())
	}
	if raw, set := s.settled.raw[o]; set {
		return raw
	}
	return o.show(s.field(o))
}

func (s *Server) field(o *Option) reflect.Value {
	return reflect.ValueOf(s).Elem().FieldByIndex(o.index)
}

// option finds the declaration of a field of s by the field's address.
func (s *Server) option(field any) *Option {
	for _, o := range serverOptions {
		if o.Scope != "" && s.field(o).Addr().Interface() == field {
			return o
		}
	}
	panic("config: not a field of this server")
}

// blame makes a problem of the line that set an option, or of the section's
// header when it has its default.
func (s *Server) blame(o *Option, warning bool, message, hint string) Problem {
	origin := s.originOf(o)
	if origin.Default {
		origin = s.header
	}
	if origin.Section != s.Name {
		message = "server " + s.Name + ": " + message
	}
	return Problem{File: origin.File, Line: origin.Line, Section: origin.Section, Option: o.Name, Value: s.shown(o),
		Message: message, Hint: hint, Warning: warning}
}

// WALPlace tells the WAL archives of servers apart.
func (s *Server) WALPlace() string { return s.WALsDirectory + " " + s.Name }

// StoreOptions are those of the object store at a URL. Where a server's backups and WAL go to stores
// of several kinds, holdfast_endpoint_url is the address of those that speak S3.
func (s *Server) StoreOptions(url string) CloudOptions {
	o := s.CloudOptions
	all := append([]string{s.BasebackupsDirectory, s.WALsDirectory}, s.HoldfastReplicas...)
	if !speaksS3(url) && slices.ContainsFunc(all, speaksS3) {
		o.HoldfastEndpointURL = ""
	}
	return o
}

func speaksS3(url string) bool {
	at, is := ParseCloudURL(url)
	return is && at.Provider == "aws"
}

func (s *Server) compute(g *Global) {
	s.LockDirectory = g.BarmanLockDirectory
	if s.BackupDirectory == "" && g.BarmanHome != "" {
		s.BackupDirectory = filepath.Join(g.BarmanHome, s.Name)
	}
	if s.BackupDirectory != "" {
		s.MetaDirectory = filepath.Join(s.BackupDirectory, "meta")
		setDefault(&s.BasebackupsDirectory, filepath.Join(s.BackupDirectory, "base"))
		setDefault(&s.WALsDirectory, filepath.Join(s.BackupDirectory, "wals"))
		setDefault(&s.IncomingWALsDirectory, filepath.Join(s.BackupDirectory, "incoming"))
		setDefault(&s.StreamingWALsDirectory, filepath.Join(s.BackupDirectory, "streaming"))
		setDefault(&s.ErrorsDirectory, filepath.Join(s.BackupDirectory, "errors"))
	}
	if url, ok := ParseCloudURL(s.BasebackupsDirectory); ok {
		s.BasebackupsCloud = &url
	}
	if url, ok := ParseCloudURL(s.WALsDirectory); ok {
		s.WALsCloud = &url
		setDefault(&s.XlogDBDirectory, s.MetaDirectory)
	}
	setDefault(&s.XlogDBDirectory, s.WALsDirectory)
	setDefault(&s.Cluster, s.Name)
	setDefault(&s.GCPProject, s.SnapshotGCPProject)
	setDefault(&s.GCPZone, s.SnapshotZone)
	if s.StreamingConninfo.IsZero() {
		s.StreamingConninfo = s.Conninfo
	}
	s.Passive = s.PrimarySSHCommand != ""
	s.Exclusive = slices.Contains(s.BackupOptions, "exclusive_backup")
	s.Concurrent = !s.Exclusive
	s.ExternalConfiguration = slices.Contains(s.BackupOptions, "external_configuration")
}

// WALSource is where WAL is streamed from: for SQL and for the replication protocol.
func (s *Server) WALSource() (sql, streaming DSN) {
	if s.WALStreamingConninfo.IsZero() {
		return s.Conninfo, s.StreamingConninfo
	}
	if s.WALConninfo.IsZero() {
		return s.WALStreamingConninfo, s.WALStreamingConninfo
	}
	return s.WALConninfo, s.WALStreamingConninfo
}

// Streams reports whether the server's WAL is to be received by streaming.
func (s *Server) Streams() bool { return s.StreamingArchiver && s.Active && !s.Passive }
