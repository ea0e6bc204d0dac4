//! The async parts of the runtime against canned answers: bytes in, requests out. Scenarios on a real API
//! server live where there is one.

mod canned;
mod composites;
mod controllers;
mod fences;
mod informers;
mod leaders;
mod leases;
mod runnables;
mod settings;
mod shards;
mod storms;
mod transport;
