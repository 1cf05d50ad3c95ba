package deptest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/holdfast-pg/holdfast/"

// deps maps each of our packages to everything that it links, itself included.
func deps(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Deps \" \"}}", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		all[strings.TrimPrefix(fields[0], module)] = fields
	}
	return all
}

// forTests reports whether path is one of our packages that only tests may import: pgtest and the like.
func forTests(path string) bool {
	path, ours := strings.CutPrefix(path, module+"internal/")
	return ours && strings.HasSuffix(path, "test")
}

// under reports whether path is one of the roots or lies below it.
func under(path string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	})
}

var (
	temporal = []string{"go.temporal.io"}
	postgres = []string{"github.com/jackc", module + "internal/pg"}
	clouds   = []string{"github.com/aws", "cloud.google.com", "google.golang.org/api", "golang.org/x/oauth2", "github.com/Azure"}
	stores   = []string{"internal/objstore/drivers", "internal/objstore/azure", "internal/objstore/file", "internal/objstore/gcs", "internal/objstore/s3"}
	// tokens are of whoever speaks to a cloud.
	tokens = []string{"internal/awslogin", "internal/entra", "internal/googletoken", "internal/snapshot/providers", "internal/snapshot/aws", "internal/snapshot/azure", "internal/snapshot/gcp"}
	disks  = []string{module + "internal/snapshot/providers", module + "internal/snapshot/aws", module + "internal/snapshot/azure", module + "internal/snapshot/btrfs", module + "internal/snapshot/custom", module + "internal/snapshot/gcp", module + "internal/snapshot/lvm", module + "internal/snapshot/zfs"}
)

// ours are packages of this module by their full names.
func ours(packages []string) []string {
	full := slices.Clone(packages)
	for i := range full {
		full[i] = module + full[i]
	}
	return full
}

func TestDirection(t *testing.T) {
	all := deps(t)
	for _, rule := range []struct {
		name      string
		packages  []string // the packages that the rule is about
		except    []string
		forbidden []string // what they must not link
	}{
		{"internal packages do not know Temporal", []string{"internal"}, nil, temporal},
		{"internal packages lie below activities and workflows", []string{"internal"}, nil,
			[]string{module + "activities", module + "workflows", module + "starter", module + "worker"}},
		{"activities lie below workflows", []string{"activities"}, nil,
			[]string{module + "workflows", module + "starter", module + "worker"}},
		{"workflows lie below the mains", []string{"workflows"}, nil, []string{module + "starter", module + "worker"}},
		{"workflows and activities know no driver", []string{"workflows", "activities"}, nil, slices.Concat(postgres, clouds, ours(stores), disks)},
		{"only mains link the PostgreSQL driver", []string{"internal"}, []string{"internal/pg"}, postgres},
		{"only mains link a driver of an object store", []string{"internal"}, slices.Concat(stores, tokens), slices.Concat(clouds, ours(stores))},
		{"only holdfast-clouds links the clients of the clouds' disks", []string{"starter", "worker", "internal"}, []string{"worker/clouds", "internal/snapshot/aws", "internal/snapshot/azure", "internal/snapshot/gcp"},
			append(ours([]string{"internal/snapshot/aws", "internal/snapshot/azure", "internal/snapshot/gcp"}), "github.com/aws/aws-sdk-go-v2/service/ec2", "cloud.google.com/go/compute/apiv1", "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager")},
		{"holdfast starts fast: it links neither Temporal nor PostgreSQL", []string{"starter/front"}, nil, slices.Concat(temporal, postgres, []string{"google.golang.org/grpc", "google.golang.org/protobuf"})},
		{"only mains link a provider of snapshots", []string{"internal"}, []string{"internal/snapshot"}, disks},
	} {
		t.Run(rule.name, func(t *testing.T) {
			checked := 0
			for name, links := range all {
				if !under(name, rule.packages...) || under(name, rule.except...) || forTests(module+name) {
					continue
				}
				checked++
				for _, dep := range links {
					if under(dep, rule.forbidden...) && dep != module+name {
						t.Errorf("%s links %s", name, dep)
					}
				}
			}
			if checked == 0 {
				t.Error("no package is checked")
			}
		})
	}
}

func TestNoProgramLinksWhatIsForTests(t *testing.T) {
	for name, links := range deps(t) {
		if forTests(module + name) {
			continue
		}
		for _, dep := range links {
			if forTests(dep) {
				t.Errorf("%s links %s", name, dep)
			}
		}
	}
}
