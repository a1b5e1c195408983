//! Synthflow's X-EI header (facts.md §2.1).
