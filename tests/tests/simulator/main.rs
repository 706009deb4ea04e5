//! The simulator: what it finds, and that its store is to be believed.
#![allow(clippy::unwrap_used)]

mod scenarios;
mod store;
