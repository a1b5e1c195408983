
pub mod cxone;
