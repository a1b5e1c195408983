pub mod cxone;
