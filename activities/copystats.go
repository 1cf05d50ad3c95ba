package activities

import (
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pylit"
)

// copyStats has the keys of Barman for the method.
func copyStats(plan Plan, c Copied) pylit.Value {
	seconds := func(d time.Duration) pylit.Value { return pylit.F(float64(d.Microseconds()) / 1e6) }
	if plan.Method == config.MethodPostgres || plan.Method == config.MethodSnapshot {
		return pylit.D(pylit.P("copy_time", seconds(c.CopyTime)), pylit.P("total_time", seconds(c.CopyTime)))
	}
	var analysis, copied, serialized []pylit.Pair
	sum := time.Duration(0)
	for _, i := range c.Items {
		if i.Analysis > 0 {
			analysis = append(analysis, pylit.P(i.Name, seconds(i.Analysis)))
		}
		if i.Copy > 0 {
			copied = append(copied, pylit.P(i.Name, seconds(i.Copy)))
			serialized = append(serialized, pylit.P(i.Name, seconds(i.Serialized)))
		}
		sum += i.Serialized
	}
	return pylit.D(
		pylit.P("total_time", seconds(c.CopyTime+c.AnalysisTime)), pylit.P("number_of_workers", pylit.I(int64(c.Workers))),
		pylit.P("analysis_time_per_item", pylit.D(analysis...)), pylit.P("copy_time_per_item", pylit.D(copied...)), pylit.P("serialized_copy_time_per_item", pylit.D(serialized...)),
		pylit.P("analysis_time", seconds(c.AnalysisTime)), pylit.P("copy_time", seconds(c.CopyTime)), pylit.P("serialized_copy_time", seconds(sum)))
}
