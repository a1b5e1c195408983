//! Fourth floor: what this product decides. Pure functions, no state, no time.

pub mod admission;
pub mod escalation;
pub mod headers;
pub mod routing;
