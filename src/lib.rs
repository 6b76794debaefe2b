pub mod batch;
#[cfg(any())] mod broker;
