//! What outputs look like at rest: feature series, advisories, ledger, in SQLite behind one seam.
