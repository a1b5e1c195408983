//! Fourth floor: what this product decides. Pure functions, no state, no time.

pub mod admission;
pub mod budget;
pub mod call_policy;
pub mod escalation;
pub mod headers;
pub mod numbers;
pub mod queues;
pub mod routing;
pub mod standard;
pub mod template;
pub mod x_headers;

#[cfg(test)]
pub(crate) mod samples;
