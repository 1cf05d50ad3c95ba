package restore

import "time"

// LedgerName is where a restore notes what it has unpacked.
const LedgerName = ledgerName

// SaveEvery makes restores note what they have unpacked as often as that.
func SaveEvery(d time.Duration) { saveEvery = d }
