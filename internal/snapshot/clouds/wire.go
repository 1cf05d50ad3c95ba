package clouds

import (
	"errors"
	"runtime/debug"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// Program is the name of the program with the drivers.
const Program = "holdfast-clouds"

// socket is the file descriptor that the program is born with.
const socket = 3

// settings are what a driver has to know of a server. Secrets stay where they are.
type settings struct {
	Name string
	config.CloudOptions
	config.SnapshotOptions
	SSHCommand string
	PathPrefix string
	// Here says that the disks are those of this host, whatever snapshot_instance is.
	Here bool
	// Revision is that of the one who asks: two that differ may not understand each other.
	Revision string
}

func settingsOf(s *config.Server, here bool) settings {
	return settings{s.Name, s.CloudOptions, s.SnapshotOptions, s.SSHCommand, s.PathPrefix, here, revision()}
}

func (s settings) server() *config.Server {
	out := &config.Server{Name: s.Name, CloudOptions: s.CloudOptions, SnapshotOptions: s.SnapshotOptions}
	out.SSHCommand, out.PathPrefix = s.SSHCommand, s.PathPrefix
	return out
}

// revision is the commit that this program was built from, "" when it does not know.
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return ""
}

// question has the arguments of a call, those that its method takes.
type question struct {
	Settings  *settings           `json:",omitempty"`
	Tag       snapshot.Tag        `json:",omitzero"`
	Disk      snapshot.Disk       `json:",omitzero"`
	Disks     []snapshot.Disk     `json:",omitempty"`
	Snapshot  *snapshot.Snapshot  `json:",omitempty"`
	Snapshots []snapshot.Snapshot `json:",omitempty"`
	Owner     string              `json:",omitempty"`
	Instance  string              `json:",omitempty"`
}

// The methods, by their paths.
const (
	pathOpen       = "/open"
	pathDisks      = "/disks"
	pathCreate     = "/create"
	pathCreateSet  = "/create-set"
	pathList       = "/list"
	pathDelete     = "/delete"
	pathLock       = "/lock"
	pathLocks      = "/locks"
	pathInfo       = "/snapshots-info"
	pathAttached   = "/attached"
	pathCreateDisk = "/create-disk"
)

// failure is an error on its way.
type failure struct {
	Kind fault.Kind
	Text string
	Hint string `json:",omitempty"`
}

func failureOf(err error) failure {
	return failure{fault.KindOf(err), err.Error(), fault.HintOf(err)}
}

func (f failure) err() error {
	return &fault.Error{Kind: f.Kind, Err: errors.New(f.Text), Hint: f.Hint}
}
