package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// write makes files below a new directory; @/ in a text stands for it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "@/", dir+"/")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t *testing.T, files map[string]string) *Config {
	t.Helper()
	c, err := Load(filepath.Join(write(t, files), "barman.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func server(t *testing.T, c *Config, name string) *Server {
	t.Helper()
	s, err := c.Server(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const base = "[barman]\nbarman_home = @/home\n"
const good = "[main]\nconninfo = host=pg\nbackup_method = postgres\n"

func TestFullConfiguration(t *testing.T) {
	text, err := os.ReadFile("testdata/full.conf")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(write(t, map[string]string{"barman.conf": string(text)}), "barman.conf")
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, p := range c.Problems {
		t.Errorf("%s", p)
	}
	for _, s := range c.Servers() {
		fmt.Fprintf(&b, "[%s] method %s, passive %v, exclusive %v, external configuration %v\n", s.Name, s.BackupMethod, s.Passive, s.Exclusive, s.ExternalConfiguration)
		s.Each(func(o Option, value string, origin Origin) {
			fmt.Fprintf(&b, "%s = %s (%s)\n", o.Name, value, origin)
		})
		for _, p := range s.UnsupportedForBackup() {
			fmt.Fprintf(&b, "a backup is refused: %s\n", p)
		}
	}
	compare(t, "testdata/full.golden", bytes.ReplaceAll(b.Bytes(), []byte(filepath.Dir(path)), []byte("@")))
}

func TestDefaults(t *testing.T) {
	c := load(t, map[string]string{"barman.conf": base + good})
	s := server(t, c, "main")
	home := c.Global.BarmanHome
	if got, want := []string{
		s.BackupDirectory, s.BasebackupsDirectory, s.WALsDirectory, s.XlogDBDirectory, s.MetaDirectory,
		s.IncomingWALsDirectory, s.StreamingWALsDirectory, s.ErrorsDirectory, s.Cluster, s.StreamingConninfo.Reveal(),
		c.Global.BarmanLockDirectory, c.Global.HoldfastStateDirectory,
	}, []string{
		home + "/main", home + "/main/base", home + "/main/wals", home + "/main/wals", home + "/main/meta",
		home + "/main/incoming", home + "/main/streaming", home + "/main/errors", "main", "host=pg",
		home, home + "/.holdfast",
	}; !slices.Equal(got, want) {
		t.Errorf("%v\n%v", got, want)
	}
	if !s.Archiver || !s.Concurrent || s.Exclusive || s.Passive || !s.Active || s.ParallelJobs != 1 || s.CheckTimeout != 30*time.Second ||
		s.HoldfastBackupDeadline != 24*time.Hour || s.HoldfastWALWait != 15*time.Minute || c.Global.HoldfastSessionLease != 12*time.Hour ||
		s.CloudStagingMaxSize != 30<<30 || s.StreamingBackupName != "barman_streaming_backup" || s.BackupCompressionLevel != nil {
		t.Errorf("%+v", s.CopyOptions)
	}
	if len(c.Problems)+len(s.UnsupportedForBackup()) > 0 {
		t.Error(c.Problems, s.UnsupportedForBackup())
	}
}

func TestInheritance(t *testing.T) {
	c := load(t, map[string]string{
		"barman.conf": base + `
COMPRESSION: zstd
parallel_jobs = 3
keepalive_interval = 7
cloud_upload_max_archive_size = 5Gi
path_prefix = "/opt/pg/bin"
configuration_files_directory = @/more
[DEFAULT]
user = fetcher
immediate_checkpoint = on
[one]
description = 'first; of # many'
compression = None
compression_level =
cluster = none
parallel_jobs = None
conninfo =
  host=pg

  user=%(user)s
  # not part of it
  password='100%%'
`,
		"more/a.conf":            "[two]\nconninfo = host=a\nreuse_backup = link\nssh_command = ssh a\nparallel_jobs = 9\n",
		"more/b.conf":            "[two]\nconninfo = host=b\n",
		"more/c.conf.off":        "[three]\n",
		"home/.barman.auto.conf": "[two]\nreuse_backup = copy\n",
	})
	one := c.servers["one"]
	if one.Compression != "" || one.ParallelJobs != 3 || one.KeepaliveInterval != 7*time.Second || one.CloudUploadMaxArchiveSize != 5<<30 ||
		one.PathPrefix != "/opt/pg/bin" || one.Description != "first; of # many" || !one.ImmediateCheckpoint ||
		one.CompressionLevel != "medium" || one.Cluster != "none" {
		t.Errorf("%+v", one)
	}
	if got := one.Conninfo.Reveal(); got != "host=pg\n\nuser=fetcher\npassword='100%'" {
		t.Errorf("%q", got)
	}
	two := server(t, c, "two")
	dir := filepath.Dir(c.Path)
	if two.Conninfo.Reveal() != "host=b" || two.ReuseBackup != "copy" || two.Compression != "zstd" {
		t.Errorf("%s %s %s", two.Conninfo, two.ReuseBackup, two.Compression)
	}
	for option, want := range map[string]Origin{
		"conninfo":      {File: dir + "/more/b.conf", Line: 2, Section: "two"},
		"reuse_backup":  {File: dir + "/home/.barman.auto.conf", Line: 2, Section: "two"},
		"compression":   {File: dir + "/barman.conf", Line: 4, Section: "barman"},
		"create_slot":   {Default: true},
		"no_such_thing": {Default: true},
	} {
		if got := two.Origin(option); got != want {
			t.Errorf("%s: %+v", option, got)
		}
	}
	if want := []string{dir + "/barman.conf", dir + "/more/a.conf", dir + "/more/b.conf", dir + "/home/.barman.auto.conf"}; !slices.Equal(c.Files, want) {
		t.Errorf("%v", c.Files)
	}
	if p := two.Problems(); len(p) != 1 || !p[0].Warning || !strings.Contains(p[0].String(), "more/b.conf:2: [two] conninfo: it replaces the value of "+dir+"/more/a.conf:2 [two]") {
		t.Errorf("%v", p)
	}
}

func TestModels(t *testing.T) {
	const models = base + "bandwidth_limit = 1\n" + `
[main]
conninfo = host=pg
cluster = blue
backup_method = postgres
[fast]
model = true
cluster = blue
bandwidth_limit = 900
backup_directory = /elsewhere
[other]
model = yes
cluster = red
[adrift]
model = true
`
	t.Run("active", func(t *testing.T) {
		c := load(t, map[string]string{"barman.conf": models, "home/main/.active-model.auto": "fast\n"})
		s := server(t, c, "main")
		if s.BandwidthLimit != 900 || s.ActiveModel != "fast" || s.Origin("bandwidth_limit").Model != "fast" || s.BackupDirectory != c.Global.BarmanHome+"/main" {
			t.Errorf("%d %q %+v %s", s.BandwidthLimit, s.ActiveModel, s.Origin("bandwidth_limit"), s.BackupDirectory)
		}
		if len(c.Servers()) != 1 {
			t.Error("a model counts as a server")
		}
		var text []string
		for _, p := range c.Problems {
			text = append(text, strings.TrimPrefix(p.String(), c.Path))
		}
		want := []string{
			":13: [fast] backup_directory: the option has no effect here; it belongs into the section of a server",
			":17: [adrift]: a model without a cluster fits no server; set cluster to that of the servers that it is for",
		}
		if !slices.Equal(text, want) {
			t.Errorf("%q", text)
		}
	})
	for name, text := range map[string]string{"other": "is for cluster red", "gone": "model gone is not in the files", "a b\x00": "is not in the files"} {
		c := load(t, map[string]string{"barman.conf": models, "home/main/.active-model.auto": name})
		if _, err := c.Server("main"); !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if s := server(t, load(t, map[string]string{"barman.conf": models}), "main"); s.ActiveModel != "" || s.BandwidthLimit != 1 {
		t.Errorf("%q %d", s.ActiveModel, s.BandwidthLimit)
	}
}

func TestUnknownServer(t *testing.T) {
	c := load(t, map[string]string{"barman.conf": base + good})
	for name, hint := range map[string]string{"mian": "did you mean main?", "warehouse": "the files know main", "barman": "the files know main"} {
		_, err := c.Server(name)
		if !fault.Is(err, fault.NotFound) || fault.HintOf(err) != hint {
			t.Errorf("%s: %v; %s", name, err, fault.HintOf(err))
		}
	}
}

func TestUnreadable(t *testing.T) {
	dir := write(t, map[string]string{"empty": "# nothing\n", "prose": "host=pg password=geheim\n", "huge": strings.Repeat("#\n", maxFile)})
	for _, name := range []string{"empty", "prose", "huge", "missing", "."} {
		if _, err := Load(filepath.Join(dir, name)); !fault.Is(err, fault.Config) || fault.HintOf(err) == "" || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFind(t *testing.T) {
	home := write(t, map[string]string{".barman.conf": base})
	t.Setenv("HOME", home)
	t.Setenv("HOLDFAST_CONFIG", "")
	t.Setenv("BARMAN_CONFIG_FILE", "")
	find := func(explicit, want string) {
		t.Helper()
		if got, err := Find(explicit); err != nil || got != want {
			t.Errorf("%s, %v", got, err)
		}
	}
	find("", home+"/.barman.conf")
	t.Setenv("BARMAN_CONFIG_FILE", "/b")
	find("", "/b")
	t.Setenv("HOLDFAST_CONFIG", "/h")
	find("", "/h")
	find("/x", "/x")
}
