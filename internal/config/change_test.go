package config

import (
	"os"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

const twoModels = base + `
[main]
conninfo = host=pg password=geheim
cluster = blue
backup_method = postgres
[fast]
model = true
cluster = blue
bandwidth_limit = 900
[broken]
model = true
cluster = blue
backup_method = nothing
[other]
model = true
cluster = red
`

func commit(t *testing.T, ch Change) {
	t.Helper()
	var err error
	if ch.Text == nil {
		err = os.Remove(ch.Path)
	} else {
		err = os.WriteFile(ch.Path, []byte(*ch.Text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestSwitchModel(t *testing.T) {
	c := load(t, map[string]string{"barman.conf": twoModels, "home/main/keep": ""})
	ch, err := c.SwitchModel("main", "fast")
	if err != nil || ch.Path != c.Global.BarmanHome+"/main/.active-model.auto" {
		t.Fatal(ch, err)
	}
	next, err := c.Try(ch)
	if err != nil || next.servers["main"].BandwidthLimit != 900 || c.servers["main"].BandwidthLimit != 0 {
		t.Fatal(err)
	}
	commit(t, ch)
	if c, err = Load(c.Path); err != nil || c.servers["main"].ActiveModel != "fast" {
		t.Fatal(err)
	}
	if ch, err = c.SwitchModel("main", ""); err != nil || ch.Text != nil {
		t.Fatal(err)
	}
	if next, err = c.Try(ch); err != nil || next.servers["main"].ActiveModel != "" {
		t.Error(err)
	}
	for _, tc := range []struct {
		server, model string
		kind          fault.Kind
		hint          string
	}{{"main", "fsat", fault.NotFound, "did you mean fast?"}, {"main", "other", fault.NotFound, "broken, fast"}, {"mian", "fast", fault.NotFound, "main"}} {
		if _, err := c.SwitchModel(tc.server, tc.model); !fault.Is(err, tc.kind) || !strings.Contains(fault.HintOf(err), tc.hint) {
			t.Errorf("%+v: %v, %s", tc, err, fault.HintOf(err))
		}
	}
	ch, err = c.SwitchModel("main", "broken")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Try(ch); !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), "backup_method") {
		t.Errorf("a model that breaks the server was accepted: %v", err)
	}
}

func TestUpdate(t *testing.T) {
	c := load(t, map[string]string{"barman.conf": twoModels, "home/main/keep": ""})
	apply := func(text string) *Config {
		t.Helper()
		ch, err := c.Update([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		next, err := c.Try(ch)
		if err != nil {
			t.Fatal(err)
		}
		commit(t, ch)
		return next
	}
	c = apply(`[{"scope": "server", "server_name": "main", "parallel_jobs": 3, "immediate_checkpoint": true, "description": " 5% \"off\" "},
		{"scope": "model", "model_name": "night", "cluster": "blue", "bandwidth_limit": "10"}]`)
	s := c.servers["main"]
	if s.ParallelJobs != 3 || !s.ImmediateCheckpoint || s.Description != ` 5% "off" ` || c.models["night"] != "blue" {
		t.Errorf("%d %v %q %v", s.ParallelJobs, s.ImmediateCheckpoint, s.Description, c.models)
	}
	c = apply(`[{"scope": "server", "server_name": "main", "parallel_jobs": null}, {"scope": "server", "server_name": "new", "conninfo": "host=b", "backup_method": "postgres"}]`)
	if c.servers["main"].ParallelJobs == 3 || c.servers["new"] == nil || c.servers["main"].Description != ` 5% "off" ` {
		t.Error("the second change was not applied to the first")
	}
	for text, want := range map[string]string{
		`{}`:                    "no JSON array",
		`[{"scope": "barman"}]`: "server or model",
		`[{"scope": "server"}]`: "server_name is missing",
		`[{"scope": "server", "server_name": "../x"}]`:                         "server_name is missing",
		`[{"scope": "server", "server_name": "barman", "log_level": "DEBUG"}]`: "server_name is missing",
		`[{"scope": "server", "server_name": "main", "paralel_jobs": 1}]`:      "did you mean parallel_jobs?",
		`[{"scope": "server", "server_name": "main", "barman_home": "/x"}]`:    "barman_home",
		`[{"scope": "model", "model_name": "m", "backup_directory": "/x"}]`:    "does not belong there",
		`[{"scope": "server", "server_name": "main", "description": "a\nb"}]`:  "more than one line",
		`[{"scope": "server", "server_name": "main", "description": ["a"]}]`:   "neither text nor a number",
	} {
		if _, err := c.Update([]byte(text)); !fault.Is(err, fault.Usage) || !strings.Contains(err.Error(), want) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		`[{"scope": "server", "server_name": "main", "parallel_jobs": "many"}]`:             "parallel_jobs = many",
		`[{"scope": "server", "server_name": "main", "backup_method": "nothing"}]`:          "backup_method",
		`[{"scope": "server", "server_name": "main", "conninfo": "geheim"}]`:                "conninfo",
		`[{"scope": "server", "server_name": "lonely", "description": "without conninfo"}]`: "conninfo",
		`[{"scope": "model", "model_name": "adrift", "bandwidth_limit": 1}]`:                "cluster",
	} {
		ch, err := c.Update([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if _, err := c.Try(ch); !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
