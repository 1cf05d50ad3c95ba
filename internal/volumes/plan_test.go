package volumes

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

var update = flag.Bool("update", false, "write the golden files anew")

func tree(name string, sizes map[string]int64) Tree {
	t := Tree{Name: name}
	for _, path := range slices.Sorted(maps.Keys(sizes)) {
		t.Files = append(t.Files, File{path, sizes[path]})
	}
	return t
}

func text(t testing.TB, p *Plan) string {
	t.Helper()
	var b bytes.Buffer
	n, err := p.WriteTo(&b)
	require.NoError(t, err)
	assert.Equal(t, int64(b.Len()), n)
	return b.String()
}

// TestPlans: each step is planned upon the plan before it.
func TestPlans(t *testing.T) {
	const mb = 1 << 20
	files := map[string]int64{"PG_VERSION": 3, "base/5/1": 3 * mb, "base/5/2": 3 * mb, "base/5/3": 40 * mb, "base/5/4": 2 * mb, "base/5/5": 0, "base/5/6": 9 * mb, "new\n\xff": 8192, "global/1": 8192}
	space := map[string]int64{"PG_15_1/5/7": 5 * mb, "PG_15_1/5/8": 6 * mb}
	var prev *Plan
	for i, step := range []struct {
		name   string
		change func()
	}{
		{"first", func() {}},
		{"the same", func() {}},
		{"one comes, one goes, one grows a little", func() {
			delete(files, "base/5/1")
			files["base/5/10"] = mb
			files["base/5/4"] = 2*mb + 1
		}},
		{"one outgrows its volume", func() { files["base/5/4"] = 8 * mb }},
		{"one outgrows all volumes", func() { files["base/5/4"] = 30 * mb }},
		{"two volumes become sparse", func() {
			files["base/5/6"] = mb
			files["base/5/2"] = 0
		}},
		{"a tablespace is emptied", func() { clear(space) }},
	} {
		step.change()
		next := Cut([]Tree{tree("data", files), tree("16384", space)}, 10*mb, prev)
		checkPlan(t, next, files, space)
		got := text(t, next)
		golden := filepath.Join("testdata", fmt.Sprintf("%d_%s.plan", i+1, strings.ReplaceAll(strings.ReplaceAll(step.name, ",", ""), " ", "_")))
		if *update {
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		assert.Equal(t, string(want), got, step.name)
		prev = next
	}
}

// checkPlan: every file once, no volume too large.
func checkPlan(t *testing.T, p *Plan, trees ...map[string]int64) {
	t.Helper()
	all := map[string]int64{}
	for _, files := range trees {
		maps.Copy(all, files)
	}
	numbers, seen := map[string]int{}, map[string]int64{}
	small := map[string][]Volume{}
	for _, v := range p.Volumes {
		numbers[v.Tree]++
		require.Equal(t, numbers[v.Tree], v.Number)
		require.NotEmpty(t, v.Files)
		if len(v.Files) > 1 {
			require.LessOrEqual(t, v.Size(), p.Limit)
		}
		if v.Size() < p.Limit/sparse {
			small[v.Tree] = append(small[v.Tree], v)
		}
		large := false
		for _, f := range v.Files {
			if _, twice := seen[f.Path]; twice || (large && !f.large()) {
				t.Fatalf("%q is there twice, or behind a large file", f.Path)
			}
			seen[f.Path] = f.Size
			large = f.large()
		}
	}
	require.True(t, maps.Equal(all, seen), "every file has its place, and its size")
	for name, of := range small {
		require.LessOrEqual(t, len(of), kinds, name)
		if len(of) == kinds {
			require.GreaterOrEqual(t, of[0].Size()+of[1].Size(), p.Limit/sparse, name)
			require.NotEqual(t, (&bin{files: of[0].Files}).kind(), (&bin{files: of[1].Files}).kind(), name)
		}
	}
}

// TestSmallFilesAreApart: what changes before every backup does not lie with what is copied as it is.
func TestSmallFilesAreApart(t *testing.T) {
	const mb = 1 << 20
	files := map[string]int64{"base/5/large": 190 * mb, "base/5/middle": 2 * mb}
	for i := range 60 {
		files[fmt.Sprintf("base/5/%d", i)] = mb - 1
	}
	p := Cut([]Tree{tree("data", files), tree("16384", map[string]int64{"PG_15_1/5/7": 5 * mb, "PG_15_1/5/8": 8192})}, SmallestLimit, nil)
	checkPlan(t, p, files, map[string]int64{"PG_15_1/5/7": 5 * mb, "PG_15_1/5/8": 8192})
	var got []string
	for _, v := range p.Volumes {
		got = append(got, fmt.Sprintf("%s %d %v", v.Name(), len(v.Files), v.Files[0].large() == v.Files[len(v.Files)-1].large()))
	}
	assert.Equal(t, []string{"data_0001.tar 60 true", "data_0002.tar 2 true", "16384_0001.tar 2 false"}, got)
}

func lists(p *Plan) map[string]bool {
	out := map[string]bool{}
	for _, v := range p.Volumes {
		names := paths(v.Files)
		slices.Sort(names)
		out[strings.Join(names, "\x00")] = true
	}
	return out
}

// TestPackingIsStable: random changes of a random cluster.
func TestPackingIsStable(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	for seed := range uint64(15) {
		r := rand.New(rand.NewPCG(seed, 1))
		size := func() int64 {
			// From nothing to more than a volume, as tables are.
			return int64(1) << r.IntN(21) * int64(r.IntN(3))
		}
		files := map[string]int64{}
		for range 100 + r.IntN(2000) {
			files[fmt.Sprint(r.IntN(1<<30))] = size()
		}
		p := Cut([]Tree{tree("data", files)}, limit, nil)
		checkPlan(t, p, files)
		var moved, touched int
		for range 15 {
			require.True(t, text(t, p) == text(t, Cut([]Tree{tree("data", files)}, limit, p)), "the same files make the same plan")
			changes := 0
			for _, name := range slices.Sorted(maps.Keys(files)) {
				switch r.IntN(60 + int(seed)*10) {
				case 0:
					delete(files, name)
				case 1:
					files[name] = size()
				case 2:
					files[name] += 8192 * int64(r.IntN(4))
				case 3:
					files[fmt.Sprint(r.IntN(1<<30))] = size()
				default:
					continue
				}
				changes++
			}
			next := Cut([]Tree{tree("data", files)}, limit, p)
			checkPlan(t, next, files)
			old, changed := lists(p), 0
			for list := range lists(next) {
				if !old[list] {
					changed++
				}
			}
			require.LessOrEqual(t, changed, 2*changes+2)
			moved += changed
			touched += changes
			p = next
		}
		assert.Less(t, moved, touched+30, "on average no more lists change than files do, and two a time")
		var sum int64
		for _, f := range tree("data", files).Files {
			sum += f.takes()
		}
		assert.LessOrEqual(t, int64(len(p.Volumes)), 4*sum/limit+2, "no plan frays")
	}
}

func TestAnotherLimitIsAnotherPlan(t *testing.T) {
	files := map[string]int64{"a": 1000, "b": 1000, "c": 1000}
	p := Cut([]Tree{tree("data", files)}, 100_000, nil)
	assert.Len(t, p.Volumes, 1)
	assert.Len(t, Cut([]Tree{tree("data", files)}, 2000, p).Volumes, 3)
}

func TestLimit(t *testing.T) {
	const gb = 1 << 30
	prev := func(n int64) *Plan { return &Plan{Limit: n} }
	for _, tc := range []struct {
		name               string
		asked, most, total int64
		prev               *Plan
		want               int64
	}{
		{"small cluster", 0, 100 * gb, 3 * gb, nil, SmallestLimit},
		{"huge cluster", 0, 100 * gb, 10000 * gb, nil, 2 * gb},
		{"it has grown", 0, 100 * gb, 10000 * gb, prev(gb), gb},
		{"it has grown much", 0, 100 * gb, 10000 * gb, prev(gb - 1), 2 * gb},
		{"it has shrunk", 0, 100 * gb, 10000 * gb, prev(4 * gb), 4 * gb},
		{"it has shrunk much", 0, 100 * gb, 10000 * gb, prev(4*gb + 1), 2 * gb},
		{"asked", 64 << 20, 100 * gb, 10000 * gb, prev(gb), 64 << 20},
		{"asked too much", 200 * gb, 100 * gb, 1, nil, 100 * gb},
		{"archives are bounded", 0, 100 << 20, 10000 * gb, prev(gb), 100 << 20},
	} {
		assert.Equal(t, tc.want, Limit(tc.asked, tc.most, tc.total, tc.prev), tc.name)
	}
}

func TestNames(t *testing.T) {
	assert.Equal(t, "data_0001.tar", Volume{Tree: "data", Number: 1}.Name())
	assert.Equal(t, "16384_12345.tar", Volume{Tree: "16384", Number: 12345}.Name())
	assert.Equal(t, "data.tar", ArchiveName("data", 0))
}

func TestResume(t *testing.T) {
	const limit = 10_500
	before := tree("data", map[string]int64{"a": 4000, "b": 4000, "c": 4000, "d": 4000, "e": 4000})
	p := Cut([]Tree{before}, limit, nil)
	p.Stride = 2 << 20
	require.Len(t, p.Volumes, 3)
	after := tree("data", map[string]int64{"a": 4000, "b": 4000, "c": 4000, "e": 4000, "f": 100})
	used := map[string]int{"data": 3}
	next := p.Resume([]Tree{after, tree("5", map[string]int64{"x": 1})}, limit, p.Volumes[:1], used)
	assert.Equal(t, "holdfast-plan 2 10500 2097152\ndata 1\n\t4000 \"a\"\n\t4000 \"b\"\ndata 4\n\t4000 \"c\"\n\t4000 \"e\"\n\t100 \"f\"\n5 1\n\t1 \"x\"\n.\n", text(t, next))
	assert.Len(t, after.Files, 5, "the trees stay as they were")
}

func TestPlanIsReadBack(t *testing.T) {
	files := map[string]int64{}
	for i, name := range odd {
		files[name] = int64(i) << 30
	}
	p := Cut([]Tree{tree("data", files), tree("1", files), tree("2", nil)}, 1<<31, nil)
	whole := text(t, p)
	back, err := ReadPlan(strings.NewReader(whole), "there")
	require.NoError(t, err)
	assert.Equal(t, p, back)
	for n := range len(whole) {
		_, err := ReadPlan(strings.NewReader(whole[:n]), "there")
		require.True(t, fault.Is(err, fault.Corrupt), "cut at %d: %v", n, err)
	}
	for _, bad := range []string{"holdfast-plan 3 5\n.\n", "holdfast-plan 2 5\n.\n", "holdfast-plan 2 5 x\n.\n", "holdfast-plan 2 5 1048577\n.\n", "holdfast-plan 2 5 0\n.\n", "holdfast-plan 2 5 262144\n.\n", "holdfast-plan 2 5 8388608\n.\n", "holdfast-plan 1 x\n.\n", "holdfast-plan 1 5\n\t1 \"a\"\n.\n", "holdfast-plan 1 5\ndata x\n.\n",
		"holdfast-plan 1 5\ndata 1\n\tx \"a\"\n.\n", "holdfast-plan 1 5\ndata 1\n\t1 a\n.\n", "holdfast-plan 1 5\n\n.\n"} {
		_, err := ReadPlan(strings.NewReader(bad), "there")
		assert.True(t, fault.Is(err, fault.Corrupt), "%q: %v", bad, err)
		assert.ErrorContains(t, err, "there")
	}
}

// TestFormerPlans have the strides that all had.
func TestFormerPlans(t *testing.T) {
	for head, stride := range map[string]int{"1 10": SegmentSize, "2 10 1048576": 1 << 20} {
		p, err := ReadPlan(strings.NewReader("holdfast-plan "+head+"\ndata 1\n\t5 \"a\"\n.\n"), "there")
		require.NoError(t, err)
		assert.Equal(t, &Plan{10, stride, []Volume{{DataTree, 1, []File{{"a", 5}}}}}, p)
		assert.Equal(t, stride, Cut([]Tree{tree(DataTree, map[string]int64{"a": 5})}, 10, p).Stride)
	}
}

func TestStride(t *testing.T) {
	of := func(size int64) []Tree {
		return []Tree{tree("data", map[string]int64{"a": size}), tree("1", map[string]int64{"b": 1})}
	}
	for size, want := range map[int64]int{0: 512 << 10, 2 << 40: 512 << 10, 2<<40 + 512<<10: 1 << 20, 4 << 40: 1 << 20, 4<<40 + 1<<20: 2 << 20, 8 << 40: 2 << 20, 9 << 40: 4 << 20, 1 << 50: 4 << 20} {
		assert.Equal(t, want, Cut(of(size), 1<<30, nil).Stride, size)
	}
	assert.Equal(t, 4<<20, Cut(of(1), 1<<30, &Plan{Limit: 5, Stride: 4 << 20}).Stride, "that of before")
}

func FuzzReadPlan(f *testing.F) {
	f.Add("holdfast-plan 2 10 1048576\ndata 1\n.\n")
	f.Add("holdfast-plan 1 10\ndata 1\n\t5 \"a\\xff\"\n.\n")
	f.Fuzz(func(t *testing.T, in string) {
		p, err := ReadPlan(strings.NewReader(in), "there")
		if err != nil {
			return
		}
		again, err := ReadPlan(strings.NewReader(text(t, p)), "there")
		require.NoError(t, err)
		assert.Equal(t, p.Limit, again.Limit)
	})
}

func BenchmarkCut(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	files := map[string]int64{}
	for i := range 100_000 {
		files[fmt.Sprintf("base/%d/%d", i%7, i)] = int64(r.IntN(20)) * 8192
	}
	trees := []Tree{tree("data", files)}
	prev := Cut(trees, 16<<20, nil)
	b.ReportAllocs()
	for b.Loop() {
		Cut(trees, 16<<20, prev)
	}
}
