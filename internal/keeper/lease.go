package keeper

import "time"

// askAfter is how long a session may be without a hold before its owner is
// looked up.
const askAfter = 15 * time.Second

// Expire ends sessions that nobody works for any more. It is called at regular
// intervals, elapsed after the call before, and only while the workflow engine
// can be reached: time in which nobody could hold a session does not count. A
// session without a hold whose owner does not run is ended at once, one whose
// owner runs after lease. Sessions that ended are forgotten.
func (r *Registry) Expire(elapsed, lease time.Duration, running func(Owner) (bool, error)) {
	for _, e := range r.all() {
		if e.ended() {
			r.mu.Lock()
			delete(r.entries, e.rec.Epoch)
			r.mu.Unlock()
			continue
		}
		e.mu.Lock()
		if e.holds == 0 {
			e.unheld += elapsed
		}
		unheld := e.unheld
		e.mu.Unlock()
		if unheld < askAfter {
			continue
		}
		if alive, err := running(e.rec.Owner); err == nil && !alive {
			r.end(e, lost(e, "the workflow that it works for does not run any more"))
		} else if unheld >= lease {
			r.end(e, lost(e, "nobody held it for %s", lease))
		}
	}
}
