//! `motectl`, as operators, image builds and CI run it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/makers.rs"]
mod makers;
#[path = "../common/operator.rs"]
mod operator;

mod commands;
mod conversion;
mod policies;
mod results;
mod tokens;
