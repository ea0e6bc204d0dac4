//! Runs the check of the same name.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kubewright_fuzz::strategic_merge::check(input));
