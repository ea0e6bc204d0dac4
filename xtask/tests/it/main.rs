//! Tests of the workspace as a whole.

mod fuzzing;
mod layers;
mod tables;
